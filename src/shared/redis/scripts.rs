//! The scripts that run in the Redis, each in one step.

use ::redis::{FromRedisValue, Value, cmd};

use super::connect::Connection;

/// A script in the Redis's own language.
#[derive(Debug, Clone, Copy)]
pub struct Script(pub &'static str);

/// What a script returned: whole numbers, texts, and lists of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Ran(pub(super) Value);

/// Tells that a session lives, unless it is over already: 1, else 0; 2 where it was taken to be over, and lives.
pub(super) const SAVE: Script = Script(include_str!("save.lua"));
/// Adds what a replica did of a session that lives.
pub(super) const PART: Script = Script(include_str!("part.lua"));
/// Tells that a session is over: whether nobody did before, and all that is known of it.
pub(super) const END: Script = Script(include_str!("end.lua"));
/// Tells that a replica lives; returns all that do.
pub(super) const BEAT: Script = Script(include_str!("beat.lua"));
/// Writes a pin; the oldest goes where there are too many.
pub(super) const PIN: Script = Script(include_str!("pin.lua"));

/// Looks whether scripts may run on these keys, and write.
pub(super) const LOOK: Script = Script("return redis.call('SET', KEYS[1], '1', 'PX', 1000)");

impl Script {
    /// As a command, for a pipeline. The Redis keeps what it has once read of it.
    pub(super) fn command(&self, keys: &[String], arguments: &[Vec<u8>]) -> ::redis::Cmd {
        let mut command = cmd("EVAL");
        command.arg(self.0).arg(keys.len()).arg(keys).arg(arguments);
        command
    }

    pub(super) async fn run(
        &self,
        connection: &mut Connection,
        keys: &[String],
        arguments: &[Vec<u8>],
    ) -> Result<Ran, ::redis::RedisError> {
        self.command(keys, arguments).query_async(connection).await.map(Ran)
    }
}

impl Ran {
    /// A whole number.
    pub fn number(&self) -> Option<i64> {
        i64::from_redis_value_ref(&self.0).ok()
    }

    /// A list of whole numbers, such as a script returns that has more than one to tell.
    pub fn numbers(&self) -> Option<Vec<i64>> {
        Vec::from_redis_value_ref(&self.0).ok()
    }

    /// A list of texts.
    pub fn texts(&self) -> Option<Vec<Vec<u8>>> {
        Vec::from_redis_value_ref(&self.0).ok()
    }
}
