//! Reads of many callers in one command. While one is under way, those that come wait and go together with the next: at rest nobody
//! waits, and under load the price of a command is shared. What fills a command waits for no other one.
use bytes::Bytes;
use redis::{FromRedisValue, RedisError, Value, aio::MultiplexedConnection, pipe};
use std::{
    io::{self, ErrorKind},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{runtime::Handle, sync::oneshot};

/// Keys of one command, heads included: what Redis answers without keeping others waiting. Nobody may ask for more at once.
pub(super) const KEYS_MAX: usize = 512;
/// Commands under way at once: enough for a distant Redis to be kept busy, few enough that each is well filled.
const RUNS_MAX: usize = 4;
/// What PTTL says of a key that is not there.
pub(super) const GONE: i64 = -2;

/// Of one connection, and gone with it: what it never answers keeps nobody waiting on the next one.
pub(super) struct Reads {
    connection: MultiplexedConnection,
    queue: Mutex<Queue>,
    /// Where the connection lives.
    runtime: Handle,
}

#[derive(Default)]
struct Queue {
    asked: Vec<Asked>,
    runs: usize,
}

impl Queue {
    fn keys(&self) -> usize {
        self.asked.iter().map(Asked::keys).sum()
    }
}

struct Asked {
    head: String,
    keys: Vec<String>,
    told: oneshot::Sender<Result<Read, RedisError>>,
}

impl Asked {
    fn keys(&self) -> usize {
        1 + self.keys.len()
    }
}

/// What stood at one moment.
pub(super) struct Read {
    pub head: Option<Bytes>,
    /// How long the head lives, a little later, as PTTL says it.
    pub left_ms: i64,
    /// Those of the keys, in their order.
    pub values: Vec<Option<Bytes>>,
}

impl Reads {
    pub fn on(connection: MultiplexedConnection) -> Arc<Self> {
        Arc::new(Self { connection, queue: Mutex::default(), runtime: Handle::current() })
    }

    /// A head, and other keys.
    ///
    /// # Errors
    /// As the connection has them.
    pub async fn read(self: &Arc<Self>, head: String, keys: Vec<String>) -> Result<Read, RedisError> {
        let (told, answer) = oneshot::channel();
        let is_wanted = {
            let mut queue = self.queue();
            queue.asked.push(Asked { head, keys, told });
            let is_wanted = queue.runs == 0 || (queue.runs < RUNS_MAX && queue.keys() >= KEYS_MAX);
            queue.runs += usize::from(is_wanted);
            is_wanted
        };
        if is_wanted {
            self.runtime.spawn(Run::of(self).run());
        }
        // The runtime of the connection has ended, and with it the connection.
        answer.await.unwrap_or_else(|_| Err(io::Error::from(ErrorKind::NotConnected).into()))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Each change of it is whole before anything that could panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks until nobody waits any more.
struct Run {
    reads: Arc<Reads>,
    is_over: bool,
}

impl Run {
    fn of(reads: &Arc<Reads>) -> Self {
        Self { reads: reads.clone(), is_over: false }
    }

    async fn run(mut self) {
        while let Some(asked) = self.next() {
            let mut connection = self.reads.connection.clone();
            match ask(&mut connection, &asked).await {
                Ok(reads) => asked.into_iter().zip(reads).for_each(|(asked, read)| drop(asked.told.send(Ok(read)))),
                Err(error) => asked.into_iter().for_each(|asked| drop(asked.told.send(Err(error.clone())))),
            }
        }
    }

    /// Who goes together; none ends the run.
    fn next(&mut self) -> Option<Vec<Asked>> {
        let mut queue = self.reads.queue();
        // They gave up waiting.
        queue.asked.retain(|asked| !asked.told.is_closed());
        let mut keys = 0;
        let fitting = queue.asked.iter().take_while(|asked| {
            keys += asked.keys();
            keys <= KEYS_MAX
        });
        let count = fitting.count().max(1).min(queue.asked.len());
        if count == 0 {
            queue.runs -= 1;
            self.is_over = true;
            return None;
        }
        Some(queue.asked.drain(..count).collect())
    }
}

impl Drop for Run {
    /// One that was cut short, as by the end of its runtime, leaves nobody waiting for it.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut queue = self.reads.queue();
        queue.runs -= 1;
        let left = if queue.runs == 0 { mem::take(&mut queue.asked) } else { Vec::new() };
        drop(queue);
        drop(left);
    }
}

/// All in one step of Redis; then how long the heads live, each asked once.
async fn ask(connection: &mut MultiplexedConnection, asked: &[Asked]) -> Result<Vec<Read>, RedisError> {
    let mut heads: Vec<&str> = asked.iter().map(|asked| &*asked.head).collect();
    heads.sort_unstable();
    heads.dedup();
    let mut asking = pipe();
    // Answers nothing for a key of another type.
    asking.cmd("MGET").arg(&heads);
    for key in asked.iter().flat_map(|asked| &asked.keys) {
        asking.arg(key);
    }
    for head in &heads {
        asking.cmd("PTTL").arg(head);
    }
    let mut answers: Vec<Value> = asking.query_async(connection).await?;
    let lives = i64::from_redis_values(answers.split_off(1))?;
    let mut values = Vec::<Option<Bytes>>::from_redis_value(answers.pop().unwrap_or(Value::Nil))?;
    let mut rest = values.split_off(heads.len().min(values.len())).into_iter();
    let reads = asked.iter().map(|asked| {
        let place = heads.binary_search(&&*asked.head).unwrap_or_default();
        Read {
            head: values.get(place).cloned().flatten(),
            left_ms: lives.get(place).copied().unwrap_or(GONE),
            values: rest.by_ref().take(asked.keys.len()).collect(),
        }
    });
    Ok(reads.collect())
}
