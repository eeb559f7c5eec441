//! Prints a line for each request to stderr: method, path, status, milliseconds.
//!
//! Invariant: no query and no body, which have numbers, texts and credentials. Neighbour: `server` creates a line for each request.

use std::{
    io::{self, Write as _},
    time::Instant,
};

use http::{Method, Request, StatusCode};

/// The line of a request in progress. Dropped without a status, it prints that the connection was broken.
pub(crate) struct AccessLine {
    began: Instant,
    method: Method,
    path: String,
    status: Option<StatusCode>,
}

impl AccessLine {
    pub(crate) fn begin<B>(request: &Request<B>) -> Self {
        Self {
            began: Instant::now(),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            status: None,
        }
    }

    pub(crate) fn end(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        let Self {
            method,
            path,
            began,
            status,
        } = self;
        let status = match status {
            Some(status) => status.as_str(),
            None => "broken",
        };
        let ms = began.elapsed().as_secs_f64() * 1000.0;
        // For people only: a closed stderr does no harm.
        let _ = writeln!(io::stderr(), "{method} {path} {status} {ms:.1} ms");
    }
}
