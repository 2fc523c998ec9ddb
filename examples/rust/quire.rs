//! Files mapped by Quire, and their pages awaited by futures, on one thread.
//!
//! `Map::want` starts an operation and gives a future. When pages are there, the library puts the operation's
//! tag into a queue, and the queue's descriptor polls readable: a runtime watches it beside its other
//! descriptors and calls `Queue::harvest`, which wakes the tasks concerned. No C code calls Rust, and no
//! other thread is involved. `checksum.rs` has a runtime of thirty lines.
//!
//! An operation's memory must stay where it is until the operation completes, while a future may be dropped
//! at any time. So the memory belongs to the queue. Who drops a future cancels its operation; if that
//! has completed all the same, the pin it took is given back.
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString};
use std::future::Future;
use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

/// The part of quire.h that is used here.
mod c {
    use std::os::raw::{c_char, c_int, c_short, c_uint, c_ulong, c_void};

    pub const RESIDENT: u32 = 1;
    pub const WANT_PIN: c_uint = 1;
    pub const POLLIN: c_short = 1;

    pub enum Cache {}
    pub enum Map {}
    pub enum Queue {}

    #[repr(C)]
    pub struct CacheOptions {
        pub size: usize,
        pub budget_bytes: u64,
        pub reserve_bytes: u64,
        pub max_open_files: c_uint,
        pub signal_faults: bool,
        pub buffered_io: bool,
    }

    #[repr(C)]
    pub struct Item {
        pub store: *mut c_void,
        pub blob: u64,
        pub path: *const c_char,
        pub fd: c_int,
        pub flags: u32,
        pub offset: u64,
        pub len_bytes: u64,
        pub reserve_bytes: u64,
        pub fill: *const c_void,
        pub fill_arg: *mut c_void,
        pub page_bytes: usize,
    }

    #[repr(C)]
    pub struct Error {
        pub code: c_int,
        pub text: [c_char; 256],
    }

    #[repr(C)]
    pub struct Op {
        pub result: i64,
        pub error_item: u64,
        pub error_offset: u64,
        pub tag: u64,
        pub opaque: [u64; 24],
    }

    #[repr(C)]
    #[derive(Clone, Copy)]
    pub struct Completion {
        pub tag: u64,
        pub result: i64,
    }

    #[repr(C)]
    pub struct Iovec {
        pub base: *const u8,
        pub len: usize,
    }

    #[repr(C)]
    pub struct PollFd {
        pub fd: c_int,
        pub events: c_short,
        pub revents: c_short,
    }

    #[link(name = "quire")]
    extern "C" {
        pub fn quire_cache_open(options: *const CacheOptions, ret: *mut *mut Cache, error: *mut Error) -> c_int;
        pub fn quire_cache_close(cache: *mut Cache) -> c_int;
        pub fn quire_queue_create(ret: *mut *mut Queue) -> c_int;
        pub fn quire_queue_destroy(queue: *mut Queue) -> c_int;
        pub fn quire_queue_fd(queue: *const Queue) -> c_int;
        pub fn quire_queue_harvest(queue: *mut Queue, ret: *mut Completion, n: c_uint) -> c_int;
        pub fn quire_op_init_queue(op: *mut Op, queue: *mut Queue, tag: u64);
        pub fn quire_op_cancel(op: *mut Op) -> c_int;
        pub fn quire_map_create(cache: *mut Cache, items: *const Item, n: usize, options: *const c_void,
                                ret: *mut *mut Map, error: *mut Error) -> c_int;
        pub fn quire_map_destroy(map: *mut Map, op: *mut Op) -> c_int;
        pub fn quire_map_base(map: *const Map) -> *const u8;
        pub fn quire_map_item(map: *const Map, index: usize, ret: *mut *const u8, ret_len: *mut usize) -> c_int;
        pub fn quire_map_residency(map: *const Map) -> *const u32;
        pub fn quire_map_page_shift(map: *const Map) -> c_uint;
        pub fn quire_map_want(map: *mut Map, ranges: *const Iovec, n: c_uint, flags: c_uint, op: *mut Op) -> c_int;
        pub fn quire_map_unwant(map: *mut Map, ranges: *const Iovec, n: c_uint) -> c_int;
    }

    extern "C" {
        pub fn poll(fds: *mut PollFd, n: c_ulong, timeout_ms: c_int) -> c_int;
    }
}

fn checked(rc: i64) -> io::Result<()> {
    if rc < 0 { Err(io::Error::from_raw_os_error(-rc as i32)) } else { Ok(()) }
}

/// With the library's own words for what went wrong.
fn explained(rc: i32, error: &c::Error) -> io::Result<()> {
    if rc >= 0 {
        return Ok(());
    }
    let text = unsafe { CStr::from_ptr(error.text.as_ptr()) };
    Err(io::Error::new(io::ErrorKind::Other, text.to_string_lossy().into_owned()))
}

// ---- the queue ----

enum State {
    Free,
    UnderWay(Option<Waker>),
    Done(i64),
    Dropped(*mut c::Map, c::Iovec), // nobody waits any more
}

/// An operation; its tag is its index in the queue's table.
struct Slot {
    op: *mut c::Op, // owned
    state: State,
}

/// Brings completions to futures.
pub struct Queue {
    raw: *mut c::Queue,
    slots: RefCell<Vec<Slot>>,
    n_under_way: Cell<usize>,
}

impl Queue {
    pub fn new() -> io::Result<Queue> {
        let mut raw = null_mut();
        checked(unsafe { c::quire_queue_create(&mut raw) } as i64)?;
        Ok(Queue { raw, slots: RefCell::new(Vec::new()), n_under_way: Cell::new(0) })
    }

    /// Polls readable when there is something to harvest.
    pub fn fd(&self) -> i32 {
        unsafe { c::quire_queue_fd(self.raw) }
    }

    /// Wakes whoever waits for what has completed. Never blocks.
    pub fn harvest(&self) {
        let mut got = [c::Completion { tag: 0, result: 0 }; 64];
        loop {
            let n = unsafe { c::quire_queue_harvest(self.raw, got.as_mut_ptr(), got.len() as u32) } as usize;
            for completion in &got[..n] {
                self.complete(completion.tag as usize, completion.result);
            }
            if n < got.len() {
                return;
            }
        }
    }

    /// Until something has completed. A program with other descriptors has them in the same poll.
    pub fn wait(&self) {
        let mut queue = c::PollFd { fd: self.fd(), events: c::POLLIN, revents: 0 };
        unsafe { c::poll(&mut queue, 1, -1) }; // if a signal interrupts it, there is nothing to harvest
    }

    fn complete(&self, index: usize, result: i64) {
        self.n_under_way.set(self.n_under_way.get() - 1);
        let before = std::mem::replace(&mut self.slots.borrow_mut()[index].state, State::Done(result));
        match before {
            State::UnderWay(Some(waker)) => waker.wake(),
            State::Dropped(map, range) => self.release(index, map, &range),
            _ => {}
        }
    }

    /// Frees a slot whose future is gone, and takes its pin back if it got one.
    fn release(&self, index: usize, map: *mut c::Map, range: &c::Iovec) {
        let before = std::mem::replace(&mut self.slots.borrow_mut()[index].state, State::Free);
        if let State::Done(0) = before {
            unsafe { c::quire_map_unwant(map, range, 1) };
        }
    }

    fn take_slot(&self) -> (usize, *mut c::Op) {
        let mut slots = self.slots.borrow_mut();
        let index = slots.iter().position(|slot| matches!(slot.state, State::Free)).unwrap_or(slots.len());
        if index == slots.len() {
            let op = c::Op { result: 0, error_item: 0, error_offset: 0, tag: 0, opaque: [0; 24] };
            slots.push(Slot { op: Box::into_raw(Box::new(op)), state: State::Free });
        }
        slots[index].state = State::UnderWay(None);
        (index, slots[index].op)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        assert_eq!(unsafe { c::quire_queue_destroy(self.raw) }, 0); // maps have waited for their operations
        for slot in self.slots.borrow().iter() {
            drop(unsafe { Box::from_raw(slot.op) });
        }
    }
}

// ---- maps ----

/// Files as one range of memory, under a budget of their own.
pub struct Map<'q> {
    queue: &'q Queue,
    cache: *mut c::Cache,
    raw: *mut c::Map,
}

impl<'q> Map<'q> {
    pub fn new(queue: &'q Queue, budget_bytes: u64, paths: &[String]) -> io::Result<Map<'q>> {
        let mut error = c::Error { code: 0, text: [0; 256] };
        let mut map = Map { queue, cache: null_mut(), raw: null_mut() };
        let options = c::CacheOptions {
            size: std::mem::size_of::<c::CacheOptions>(),
            budget_bytes,
            reserve_bytes: 0,
            max_open_files: 0,
            signal_faults: false,
            buffered_io: false,
        };
        let names = paths.iter().map(|path| CString::new(path.as_str())).collect::<Result<Vec<_>, _>>()?;
        let items: Vec<c::Item> = names.iter().map(|name| c::Item {
            store: null_mut(),
            blob: 0,
            path: name.as_ptr(),
            fd: -1,
            flags: 0,
            offset: 0,
            len_bytes: 0,
            reserve_bytes: 0,
            fill: null(),
            fill_arg: null_mut(),
            page_bytes: 0,
        }).collect();
        unsafe {
            explained(c::quire_cache_open(&options, &mut map.cache, &mut error), &error)?;
            let rc = c::quire_map_create(map.cache, items.as_ptr(), items.len(), null(), &mut map.raw, &mut error);
            explained(rc, &error)?;
        }
        Ok(map)
    }

    pub fn item_len(&self, index: usize) -> usize {
        self.piece(index, 0, usize::MAX).len
    }

    /// The bytes if all of them are in memory now: a load a page, no call of the library. If they leave just
    /// now, they are right all the same: a load then waits.
    pub fn if_resident(&self, item: usize, from: usize, len: usize) -> Option<&[u8]> {
        let piece = self.piece(item, from, len);
        unsafe {
            let table = c::quire_map_residency(self.raw) as *const AtomicU32;
            if table.is_null() {
                return None; // the kernel does the mapping: not known
            }
            let shift = c::quire_map_page_shift(self.raw);
            let start = piece.base as usize - c::quire_map_base(self.raw) as usize;
            for page in start >> shift..(start + piece.len + (1 << shift) - 1) >> shift {
                if (*table.add(page)).load(Ordering::Relaxed) & c::RESIDENT == 0 {
                    return None;
                }
            }
            Some(std::slice::from_raw_parts(piece.base, piece.len))
        }
    }

    /// Begins to read what is not in memory; await it to use the bytes.
    pub fn want(&self, item: usize, from: usize, len: usize) -> Want<'_> {
        let range = self.piece(item, from, len);
        let (slot, op) = self.queue.take_slot();
        let rc = unsafe {
            c::quire_op_init_queue(op, self.queue.raw, slot as u64);
            c::quire_map_want(self.raw, &range, 1, c::WANT_PIN, op)
        };
        if rc < 0 {
            self.queue.slots.borrow_mut()[slot].state = State::Done(rc as i64); // refused: it will not complete
        } else {
            self.queue.n_under_way.set(self.queue.n_under_way.get() + 1);
        }
        Want { map: self, range, slot: Some(slot) }
    }

    /// The part of the item that exists.
    fn piece(&self, item: usize, from: usize, len: usize) -> c::Iovec {
        let (mut base, mut item_len) = (null(), 0);
        let rc = unsafe { c::quire_map_item(self.raw, item, &mut base, &mut item_len) };
        assert_eq!(rc, 0, "no item {}", item);
        let from = from.min(item_len);
        c::Iovec { base: unsafe { base.add(from) }, len: len.min(item_len - from) }
    }
}

impl Drop for Map<'_> {
    fn drop(&mut self) {
        while self.queue.n_under_way.get() > 0 { // of futures that were dropped
            self.queue.wait();
            self.queue.harvest();
        }
        unsafe {
            if !self.raw.is_null() {
                assert_eq!(c::quire_map_destroy(self.raw, null_mut()), 0);
            }
            assert_eq!(c::quire_cache_close(self.cache), 0);
        }
    }
}

/// A piece that is being read.
pub struct Want<'m> {
    map: &'m Map<'m>,
    range: c::Iovec,
    slot: Option<usize>, // until its result was handed out
}

impl<'m> Future for Want<'m> {
    type Output = io::Result<Pinned<'m>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let index = self.slot.expect("polled after completion");
        let mut slots = self.map.queue.slots.borrow_mut();
        if let State::Done(result) = slots[index].state {
            slots[index].state = State::Free;
            self.slot = None;
            let range = c::Iovec { base: self.range.base, len: self.range.len };
            return Poll::Ready(checked(result).map(|_| Pinned { map: self.map, range }));
        }
        slots[index].state = State::UnderWay(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Want<'_> {
    fn drop(&mut self) {
        let index = match self.slot {
            Some(index) => index,
            None => return,
        };
        let range = c::Iovec { base: self.range.base, len: self.range.len };
        let mut slots = self.map.queue.slots.borrow_mut();
        if let State::Done(_) = slots[index].state {
            drop(slots);
            return self.map.queue.release(index, self.map.raw, &range);
        }
        slots[index].state = State::Dropped(self.map.raw, range);
        unsafe { c::quire_op_cancel(slots[index].op) };
    }
}

/// Bytes that stay in memory as long as this lives.
pub struct Pinned<'m> {
    map: &'m Map<'m>,
    range: c::Iovec,
}

impl Deref for Pinned<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        unsafe { std::slice::from_raw_parts(self.range.base, self.range.len) }
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        unsafe { c::quire_map_unwant(self.map.raw, &self.range, 1) };
    }
}
