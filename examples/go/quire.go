// Files mapped by Quire, and their pages awaited by goroutines.
//
// A goroutine that touches a cold page of a plain mmap keeps its thread, and Go's scheduler does not
// know. Here it asks for the range first: that returns at once, and the goroutine waits on a channel as for
// anything else. When pages are there, the library puts the operation's tag into a queue; the queue's
// descriptor becomes readable, which Go's own poller sees; and one goroutine takes the tags and tells
// those that wait. No C code calls Go, and no thread is kept waiting.
//
// What C holds on to, the operations, is C's memory; the map's bytes are nobody's as far as the garbage
// collector is concerned, and may be used as a slice.
package main

/*
#cgo pkg-config: quire
#include <quire/quire.h>
#include <stdlib.h>
*/
import "C"

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// wait is an operation and the goroutine that waits for it. The operation's tag is the index.
type wait struct {
	op   *C.struct_quire_op
	done chan int64
}

// Queue brings completions to goroutines.
type Queue struct {
	c     *C.struct_quire_queue
	file  *os.File // its descriptor, as Go's poller knows it
	ops   unsafe.Pointer
	waits []wait
	free  chan uint64 // indexes
	ended sync.WaitGroup
}

// NewQueue makes a queue for n operations at a time; who wants to start another waits for one to end.
func NewQueue(n int) (*Queue, error) {
	q := &Queue{waits: make([]wait, n), free: make(chan uint64, n)}
	if rc := C.quire_queue_create(&q.c); rc < 0 {
		return nil, syscall.Errno(-rc)
	}
	fd, err := syscall.Dup(int(C.quire_queue_fd(q.c))) // the queue's own is closed by the queue
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(fd)
	q.file = os.NewFile(uintptr(fd), "quire")
	if err := q.file.SetReadDeadline(time.Time{}); err != nil { // it would block a thread
		return nil, err
	}

	q.ops = C.calloc(C.size_t(n), C.sizeof_struct_quire_op)
	ops := unsafe.Slice((*C.struct_quire_op)(q.ops), n)
	for i := range q.waits {
		q.waits[i] = wait{op: &ops[i], done: make(chan int64, 1)}
		q.free <- uint64(i)
	}
	q.ended.Add(1)
	go q.harvest()
	return q, nil
}

// harvest tells goroutines what has completed, until the file is closed. Go's poller sees only that the
// descriptor becomes readable, so it is asked only once the queue was empty.
func (q *Queue) harvest() {
	defer q.ended.Done()
	var got [64]C.struct_quire_completion
	conn, err := q.file.SyscallConn()
	for err == nil {
		n := 0
		err = conn.Read(func(uintptr) bool {
			n = int(C.quire_queue_harvest(q.c, &got[0], C.uint(len(got))))
			return n > 0
		})
		for _, c := range got[:n] {
			q.waits[c.tag].done <- int64(c.result)
		}
	}
}

// Close ends a queue that no operation uses.
func (q *Queue) Close() error {
	q.file.Close()
	q.ended.Wait()
	if rc := C.quire_queue_destroy(q.c); rc < 0 {
		return syscall.Errno(-rc)
	}
	C.free(q.ops)
	return nil
}

// Map is files as one range of memory, under a budget of their own.
type Map struct {
	queue     *Queue
	cache     *C.struct_quire_cache
	c         *C.struct_quire_map
	base      uintptr
	shift     uint     // log2 of the page size
	residency []uint32 // a word a page; nil where the kernel does the mapping
}

// NewMap maps the files.
func NewMap(queue *Queue, budget uint64, paths []string) (*Map, error) {
	m := &Map{queue: queue}
	var failure C.struct_quire_error
	options := C.struct_quire_cache_options{budget_bytes: C.uint64_t(budget)}
	options.size = C.size_t(unsafe.Sizeof(options))
	if C.quire_cache_open(&options, &m.cache, &failure) < 0 {
		return nil, errors.New(C.GoString(&failure.text[0]))
	}

	items := make([]C.struct_quire_item, len(paths)+1) // never empty, to have an address
	for i, path := range paths {
		items[i].path = C.CString(path)
		defer C.free(unsafe.Pointer(items[i].path))
	}
	if C.quire_map_create(m.cache, &items[0], C.size_t(len(paths)), nil, &m.c, &failure) < 0 {
		C.quire_cache_close(m.cache)
		return nil, errors.New(C.GoString(&failure.text[0]))
	}
	m.base = uintptr(C.quire_map_base(m.c))
	m.shift = uint(C.quire_map_page_shift(m.c))
	if words := C.quire_map_residency(m.c); words != nil {
		m.residency = unsafe.Slice((*uint32)(words), uint64(C.quire_map_bytes(m.c))>>m.shift)
	}
	return m, nil
}

// Close ends the map, of which nothing is used any more.
func (m *Map) Close() error {
	if rc := C.quire_map_destroy(m.c, nil); rc < 0 {
		return syscall.Errno(-rc)
	}
	if rc := C.quire_cache_close(m.cache); rc < 0 {
		return syscall.Errno(-rc)
	}
	return nil
}

// Item gives a file's bytes, which need not be in memory.
func (m *Map) Item(index int) ([]byte, error) {
	var start unsafe.Pointer
	var length C.size_t
	if rc := C.quire_map_item(m.c, C.size_t(index), &start, &length); rc < 0 {
		return nil, syscall.Errno(-rc)
	}
	return unsafe.Slice((*byte)(start), uint64(length)), nil
}

// Resident tells whether all of the piece is in memory now: a load a page, no call of the library.
func (m *Map) Resident(piece []byte) bool {
	if len(piece) == 0 {
		return true
	}
	if m.residency == nil {
		return false // not known
	}
	from := uintptr(unsafe.Pointer(&piece[0])) - m.base
	for page := from >> m.shift; page <= (from+uintptr(len(piece))-1)>>m.shift; page++ {
		if atomic.LoadUint32(&m.residency[page])&C.QUIRE_RESIDENT == 0 {
			return false
		}
	}
	return true
}

// Await has use called with the piece once it is in memory, where it stays for so long. Only this
// goroutine waits.
func (m *Map) Await(piece []byte, use func([]byte)) error {
	if len(piece) == 0 {
		use(piece)
		return nil
	}
	index := <-m.queue.free
	defer func() { m.queue.free <- index }()
	w := m.queue.waits[index]
	pages := C.struct_iovec{iov_base: unsafe.Pointer(&piece[0]), iov_len: C.size_t(len(piece))}

	C.quire_op_init_queue(w.op, m.queue.c, C.uint64_t(index))
	if rc := C.quire_map_want(m.c, &pages, 1, C.QUIRE_WANT_PIN, w.op); rc < 0 {
		return syscall.Errno(-rc) // refused: it will not complete
	}
	if result := <-w.done; result < 0 {
		return syscall.Errno(-result)
	}
	defer C.quire_map_unwant(m.c, &pages, 1)
	use(piece)
	return nil
}
