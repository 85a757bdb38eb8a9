//! What makes a run repeatable: dice, actors that take turns in virtual time, processes that can die, and the trace.
//!
//! Everything that touches what runs share (source, log, target) is done by an actor at the end of a turn: a pause of a
//! drawn length that ends at a millisecond which is this actor's alone, since `tokio` wakes those who wait for one
//! thing in no fixed order. So the same seed is the same run, step by step. A turn of a process that died never ends:
//! that is the crash, at whatever await it was.

use freshet_core::{Error, Result};
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Actors that are alive at one time have a millisecond each in so many.
const SLOTS: u64 = 64;

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Random numbers that are the same with every version of every crate (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64, salt: u64) -> Self {
        let mut dice = Self(seed ^ salt.wrapping_mul(0xd6e8_feb8_6659_fd93));
        dice.next();
        dice
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `n - 1`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// True once in so many; never for 0.
    pub fn one_in(&mut self, n: u32) -> bool {
        n > 0 && self.below(n as usize) == 0
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

/// A run of the engine. Once dead, nothing that it began goes on.
#[derive(Debug)]
pub struct Process {
    pub id: u64,
    dead: AtomicBool,
}

impl Process {
    pub fn new(id: u64) -> Arc<Self> {
        Arc::new(Self { id, dead: AtomicBool::new(false) })
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct State {
    /// Who has which millisecond, and its process.
    slots: Vec<Option<(u64, Option<u64>)>>,
    actors: u64,
    trace: Vec<String>,
    violation: Option<String>,
}

/// What all actors of one life share.
#[derive(Debug)]
pub struct World {
    begun: Instant,
    seed: u64,
    /// Pauses of turns, drawn from these, in milliseconds.
    paces: Vec<u64>,
    /// Whether notes are kept.
    traced: bool,
    /// One call in so many loses its connection before it is carried out or before its answer comes.
    lossy: AtomicU32,
    state: Mutex<State>,
}

impl World {
    pub fn new(seed: u64, paces: Vec<u64>, traced: bool) -> Arc<Self> {
        let slots = vec![None; SLOTS as usize];
        let state = State { slots, actors: 0, trace: Vec::new(), violation: None };
        Arc::new(Self {
            begun: Instant::now(),
            seed,
            paces,
            traced,
            lossy: AtomicU32::new(0),
            state: Mutex::new(state),
        })
    }

    /// From now on one call in `n` fails; none for 0.
    pub fn lose_one_in(&self, n: u32) {
        self.lossy.store(n, Ordering::Relaxed);
    }

    pub fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    pub fn actor(self: &Arc<Self>, process: Option<&Arc<Process>>, name: &'static str) -> Actor {
        let mut state = lock(&self.state);
        let id = state.actors;
        state.actors += 1;
        let free = state.slots.iter().position(Option::is_none).unwrap_or((id % SLOTS) as usize);
        state.slots[free] = Some((id, process.map(|p| p.id)));
        let dice = Dice::new(self.seed, id + 1);
        Actor { world: self.clone(), process: process.cloned(), id, slot: free as u64, name, dice }
    }

    /// Ends a process where it stands.
    pub fn kill(&self, process: &Process) {
        process.dead.store(true, Ordering::Relaxed);
        for slot in &mut lock(&self.state).slots {
            *slot = slot.filter(|(_, owner)| *owner != Some(process.id));
        }
        self.note(|| format!("process {} dies", process.id));
    }

    pub fn note(&self, what: impl FnOnce() -> String) {
        if !self.traced {
            return;
        }
        let line = format!("{:>8} {}", self.now_ms(), what());
        lock(&self.state).trace.push(line);
    }

    /// An invariant does not hold. The first one counts.
    pub fn violation(&self, what: String) {
        self.note(|| format!("VIOLATION {what}"));
        lock(&self.state).violation.get_or_insert(what);
    }

    pub fn first_violation(&self) -> Option<String> {
        lock(&self.state).violation.clone()
    }

    pub fn trace(&self) -> Vec<String> {
        lock(&self.state).trace.clone()
    }
}

/// Somebody who does one thing at a time: a connection, a disk, a user.
#[derive(Debug)]
pub struct Actor {
    pub world: Arc<World>,
    pub process: Option<Arc<Process>>,
    id: u64,
    slot: u64,
    name: &'static str,
    pub dice: Dice,
}

impl Drop for Actor {
    fn drop(&mut self) {
        let slot = &mut lock(&self.world.state).slots[self.slot as usize];
        *slot = slot.filter(|(owner, _)| *owner != self.id);
    }
}

impl Actor {
    /// A pause. Never ends in a process that died before it or meanwhile.
    pub async fn turn(&mut self) {
        self.pause(self.dice.clone().pick(&self.world.paces)).await;
    }

    pub async fn pause(&mut self, ms: u64) {
        self.dice.next();
        let jitter = if ms == 0 { 0 } else { self.dice.below(ms as usize) as u64 };
        let from = self.world.now_ms() + jitter + 1;
        let at = from + (self.slot + SLOTS - from % SLOTS) % SLOTS;
        self.hang_if_dead().await;
        sleep_until(self.world.begun + Duration::from_millis(at)).await;
        self.hang_if_dead().await;
    }

    async fn hang_if_dead(&self) {
        if self.process.as_ref().is_some_and(|process| process.is_dead()) {
            pending::<()>().await;
        }
    }

    /// Before a call is carried out: a turn, and perhaps the connection is lost.
    pub async fn ask(&mut self) -> Result<()> {
        self.turn().await;
        self.lose("before")
    }

    /// After it was carried out: the same, and nobody knows whether it was.
    pub async fn answer<T>(&mut self, outcome: Result<T>) -> Result<T> {
        self.turn().await;
        match outcome {
            Ok(done) => self.lose("after").map(|()| done),
            Err(e) => Err(e),
        }
    }

    /// Perhaps loses the connection.
    pub fn lose(&mut self, when: &str) -> Result<()> {
        if !self.dice.one_in(self.world.lossy.load(Ordering::Relaxed)) {
            return Ok(());
        }
        self.note(|| format!("loses its connection {when}"));
        Err(Error::unavailable(format!("The {} lost its connection {when} a call", self.name)))
    }

    pub fn note(&self, what: impl FnOnce() -> String) {
        let process = self.process.as_ref().map_or(String::new(), |p| format!(" of {}", p.id));
        self.world.note(|| format!("{}{process} {}", self.name, what()));
    }
}
