//! An S3 server on loopback: moto, which keeps its objects in memory.

use crate::processes::{Program, Running, free_ports};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;

/// The one bucket.
pub(crate) const BUCKET: &str = "tpch";

/// A server, which ends with the test.
pub(crate) struct Server {
    _process: Running,
    port: u16,
}

impl Server {
    /// Starts it, and makes the bucket.
    ///
    /// # Panics
    /// Panics if `DEEPRING_MOTO` does not name the program, which `npm run engines -- s3` installs.
    pub(crate) fn start() -> Self {
        let path = std::env::var_os("DEEPRING_MOTO").map(PathBuf::from);
        let path = path.expect("run `npm run engines -- s3`, which installs moto and names its server in DEEPRING_MOTO");
        let port = free_ports(1)[0];
        let arguments = ["-H".to_owned(), Ipv4Addr::LOCALHOST.to_string(), "-p".to_owned(), port.to_string()];
        // It writes a line for each request.
        let process = Running::start(&Program { path, environment: Vec::new() }, &arguments, [Stdio::null(), Stdio::null()]);
        process.await_port(port);
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
        write!(connection, "PUT /{BUCKET} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .expect("a request");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Self { _process: process, port }
    }

    /// What a program needs in its environment to use the bucket.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT", format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.port)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_BUCKET_NAME", BUCKET.to_owned()),
        ]
    }
}
