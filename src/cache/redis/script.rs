//! Scripts by their digest, and whole where Redis does not have them: after a restart, or once somebody flushed them.
use ::redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, ToRedisArgs, aio::MultiplexedConnection};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use std::fmt::Write;

pub(super) struct Script {
    text: &'static str,
    /// What Redis names it by: SHA-1 in hex, which nothing depends on but finding it.
    name: String,
}

impl Script {
    pub fn new(text: &'static str) -> Self {
        let mut name = String::new();
        for byte in digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref() {
            write!(name, "{byte:02x}").expect("a string takes what is written");
        }
        Self { text, name }
    }

    pub fn call(&self) -> Call<'_> {
        Call { script: self, keys: Vec::new(), arguments: Vec::new() }
    }
}

/// A script with what it is to work on.
pub(super) struct Call<'a> {
    script: &'a Script,
    keys: Vec<Vec<u8>>,
    arguments: Vec<Vec<u8>>,
}

impl Call<'_> {
    pub fn key(&mut self, key: impl ToRedisArgs) -> &mut Self {
        key.write_redis_args(&mut self.keys);
        self
    }

    pub fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        argument.write_redis_args(&mut self.arguments);
        self
    }

    /// # Errors
    /// As the connection has them. A script that Redis did not have has done nothing, so it is sent once more, whole.
    pub async fn run<T: FromRedisValue>(&self, connection: &mut MultiplexedConnection) -> RedisResult<T> {
        let outcome = self.command("EVALSHA", &self.script.name).query_async(connection).await;
        match outcome {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command("EVAL", self.script.text).query_async(connection).await
            }
            outcome => outcome,
        }
    }

    fn command(&self, how: &str, script: &str) -> Cmd {
        let mut command = ::redis::cmd(how);
        command.arg(script).arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        command
    }
}
