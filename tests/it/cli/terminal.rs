//! Runs a command on a pseudo-terminal, as a person would.

use std::{fs::File, io::Read as _, os::unix::process::ExitStatusExt as _};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use super::*;

/// Runs a command with stdout and stderr on one terminal of `columns`. Returns its exit status (128 and the signal if it was
/// killed) and the terminal's text. If the text contains `until`, the command is killed.
pub async fn run_on_terminal(
    mut command: Command,
    columns: u16,
    until: Option<&str>,
) -> (i32, String) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let user = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&user, size).unwrap();
    let user = File::from(user);
    let term = term(&command);
    command
        .env_remove("NO_COLOR")
        .env("TERM", term)
        .stdout(user.try_clone().unwrap())
        .stderr(user);
    let mut child = command.spawn().unwrap();
    // The terminal ends when its last user is closed.
    drop(command);
    let (found, mut is_found) = tokio::sync::oneshot::channel();
    let until = until.map(str::to_owned);
    let reading = tokio::task::spawn_blocking(move || {
        let mut controller = File::from(controller);
        let mut text = String::new();
        let mut found = Some(found);
        let mut bytes = [0; 4096];
        // Linux reports the end as an error.
        while let Ok(read @ 1..) = controller.read(&mut bytes) {
            text.push_str(&String::from_utf8_lossy(&bytes[..read]));
            if until.as_ref().is_some_and(|until| text.contains(until))
                && let Some(found) = found.take()
            {
                let _ = found.send(());
            }
        }
        text.replace("\r\n", "\n")
    });
    let ending = async {
        tokio::select! {
            status = child.wait() => return status.unwrap(),
            Ok(()) = &mut is_found => {}
        }
        child.start_kill().unwrap();
        child.wait().await.unwrap()
    };
    let status = tokio::time::timeout(DEADLINE, ending)
        .await
        .expect("the command ends");
    let status = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap());
    (status, reading.await.unwrap())
}

/// TERM as the command sets it, else a terminal with colours.
fn term(command: &Command) -> std::ffi::OsString {
    let set = command
        .as_std()
        .get_envs()
        .find(|(name, _)| *name == "TERM")
        .and_then(|(_, value)| value);
    set.unwrap_or("xterm-256color".as_ref()).to_owned()
}

/// The text without colours.
pub fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut plain, part| {
        plain.push_str(part.split_once('m').map_or(part, |(_, after)| after));
        plain
    })
}
