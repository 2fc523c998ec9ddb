//! checksum FILE… - Adler-32 of each file, twice, by sixteen tasks on one thread, with 8 MiB of memory for all.
//!
//! Each task has the next piece of its file read while it sums one. The second time, what is still in memory
//! is used as it is, after a look at the residency table. The runtime is `run`, below: what it does, any
//! other that can watch a descriptor does as well. quire.rs has the part that is of interest.
//!
//!   rustc --edition 2021 -O -L DIRECTORY_OF_LIBQUIRE checksum.rs
mod quire;

use quire::{Map, Queue};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

const BUDGET_BYTES: u64 = 8 << 20;
const PIECE_BYTES: usize = 64 << 10;
const N_TASKS: usize = 16; // with two pieces each, which are pinned: they must fit into the budget with ease

// ---- the runtime ----

type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
type Ready = Arc<Mutex<VecDeque<usize>>>; // tasks that can go on; a waker may come from anywhere

struct TaskWaker {
    task: usize,
    ready: Ready,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.lock().unwrap().push_back(self.task);
    }
}

fn next(ready: &Ready) -> Option<usize> {
    ready.lock().unwrap().pop_front()
}

/// Until all tasks have ended.
fn run(queue: &Queue, tasks: Vec<Task<'_>>) {
    let ready: Ready = Arc::new(Mutex::new((0..tasks.len()).collect()));
    let mut tasks: Vec<Option<Task>> = tasks.into_iter().map(Some).collect();
    let mut n_left = tasks.len();
    while n_left > 0 {
        while let Some(index) = next(&ready) {
            let waker = Waker::from(Arc::new(TaskWaker { task: index, ready: ready.clone() }));
            let has_ended = match &mut tasks[index] {
                Some(task) => task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready(),
                None => false, // woken twice, and ended at the first
            };
            if has_ended {
                tasks[index] = None;
                n_left -= 1;
            }
        }
        if n_left > 0 {
            queue.wait();
            queue.harvest();
        }
    }
}

// ---- the program ----

struct Adler(u32, u32);

impl Adler {
    fn add(&mut self, bytes: &[u8]) {
        for block in bytes.chunks(4096) { // as many as can be added before 32 bits overflow
            for byte in block {
                self.0 += *byte as u32;
                self.1 += self.0;
            }
            self.0 %= 65521;
            self.1 %= 65521;
        }
    }

    fn value(&self) -> u32 {
        self.1 << 16 | self.0
    }
}

#[derive(Default)]
struct Counts {
    there: Cell<usize>,
    awaited: Cell<usize>,
    failed: Cell<usize>,
}

fn add_one(counter: &Cell<usize>) {
    counter.set(counter.get() + 1);
}

async fn sum(map: &Map<'_>, item: usize, counts: &Counts) -> io::Result<u32> {
    let mut adler = Adler(1, 0);
    let mut ahead = None;
    for from in (0..map.item_len(item)).step_by(PIECE_BYTES) {
        let (wanted, after) = (ahead.take(), from + PIECE_BYTES);
        if after < map.item_len(item) && map.if_resident(item, after, PIECE_BYTES).is_none() {
            ahead = Some(map.want(item, after, PIECE_BYTES));
        }
        match (wanted, map.if_resident(item, from, PIECE_BYTES)) {
            (None, Some(bytes)) => {
                add_one(&counts.there);
                adler.add(bytes);
            }
            (wanted, _) => {
                add_one(&counts.awaited);
                adler.add(&wanted.unwrap_or_else(|| map.want(item, from, PIECE_BYTES)).await?);
            }
        }
    }
    Ok(adler.value())
}

/// Sums one file after another, as long as there are any.
async fn sum_some(map: &Map<'_>, paths: &[String], n_begun: &Cell<usize>, lines: &RefCell<Vec<String>>,
                  counts: &Counts) {
    while n_begun.get() < paths.len() {
        let item = n_begun.get();
        add_one(n_begun);
        let line = match sum(map, item, counts).await {
            Ok(sum) => format!("{:08x} {}", sum, paths[item]),
            Err(error) => {
                add_one(&counts.failed);
                format!("{}: {}", paths[item], error)
            }
        };
        lines.borrow_mut()[item] = line;
    }
}

/// Returns whether all could be read.
fn sum_all(queue: &Queue, map: &Map, paths: &[String]) -> bool {
    let (counts, n_begun) = (Counts::default(), Cell::new(0));
    let lines = RefCell::new(vec![String::new(); paths.len()]);
    run(queue, (0..N_TASKS).map(|_| Box::pin(sum_some(map, paths, &n_begun, &lines, &counts)) as Task).collect());
    for line in lines.borrow().iter() {
        println!("{}", line);
    }
    println!("pieces: {} were there, {} awaited", counts.there.get(), counts.awaited.get());
    counts.failed.get() == 0
}

fn main() -> io::Result<()> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let queue = Queue::new()?;
    let map = Map::new(&queue, BUDGET_BYTES, &paths)?;
    let good = sum_all(&queue, &map, &paths) && sum_all(&queue, &map, &paths);
    drop(map);
    drop(queue);
    std::process::exit(if good { 0 } else { 1 });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn futures_may_be_dropped_at_any_time() {
        let path = std::env::temp_dir().join(format!("checksum-{}", std::process::id()));
        std::fs::write(&path, vec![7; 100 * PIECE_BYTES]).unwrap();
        let queue = Queue::new().unwrap();
        let map = Map::new(&queue, BUDGET_BYTES, &[path.to_str().unwrap().to_string()]).unwrap();
        let waker = Waker::from(Arc::new(TaskWaker { task: 0, ready: Ready::default() }));
        for round in 0..100 {
            let mut wanted: Vec<_> = (0..8).map(|i| map.want(0, (round * 8 + i) % 100 * PIECE_BYTES, PIECE_BYTES)).collect();
            for want in wanted.iter_mut().take(round % 8) {
                let _ = Pin::new(want).poll(&mut Context::from_waker(&waker));
            }
            if round % 2 == 0 {
                queue.wait();
                queue.harvest();
            }
        }
        drop(map); // fails if a pin is left
        std::fs::remove_file(path).unwrap();
    }
}
