//! The files of the embedded log: who may read them.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use smsbridge::{
    events::{BeginSends, EventLog as _, NewEvent, SendJournal as _, embedded::EmbeddedLog},
    message::id::ApplicationName,
    ops::metrics::Metrics,
    proto::v1,
};

#[tokio::test]
async fn other_users_cannot_read_the_folder_and_files_of_the_log() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("smsbridge/events");
    let an_hour = Duration::from_secs(3600);
    let others = |path: &Path| {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        mode & 0o077
    };
    let files = || -> Vec<_> {
        let files = fs::read_dir(&folder).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    };
    for _ in 0..2 {
        let log = EmbeddedLog::open(&folder, an_hour, Metrics::new()).unwrap();
        let result = Box::<v1::SendResult>::default();
        let application = ApplicationName::parse("shop").unwrap();
        let event = NewEvent::send_result(&application, "r", None, result, Timestamp::now());
        log.append(Arc::new(vec![event])).await.unwrap();
        let begin = BeginSends {
            sends: vec![("shop.2".into(), [7; 16])],
            ..BeginSends::default()
        };
        log.begin(begin).await.unwrap();
        assert!(files().len() >= 4, "{:?}", files());
        for path in files() {
            assert_eq!(others(&path), 0, "{path:?}");
        }
        log.close().await;
        // As an earlier version left them.
        for path in files() {
            fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        }
    }
    assert_eq!(others(&folder), 0);
}
