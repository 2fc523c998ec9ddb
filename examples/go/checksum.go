// checksum FILE… - Adler-32 of each file, a goroutine a file, twice, with 8 MiB of memory for all of them.
//
// The second time, what is still in memory is used as it is, after a look at the residency table; all else
// is awaited. quire.go has the part that is of interest.
package main

import (
	"fmt"
	"hash/adler32"
	"os"
	"sync"
	"sync/atomic"
)

const (
	budget     = 8 << 20
	pieceBytes = 64 << 10
	maxAwaited = 32 // pieces; they are pinned while they are used, so they must fit into the budget with ease
)

type counts struct {
	there, awaited, failed int64
}

func sum(m *Map, item int, n *counts) (uint32, error) {
	rest, err := m.Item(item)
	hash := adler32.New()
	use := func(piece []byte) { hash.Write(piece) }
	for err == nil && len(rest) > 0 {
		piece := rest
		if len(piece) > pieceBytes {
			piece = piece[:pieceBytes]
		}
		rest = rest[len(piece):]
		if m.Resident(piece) {
			// If it leaves just now, its bytes are right all the same: the load then waits.
			atomic.AddInt64(&n.there, 1)
			use(piece)
		} else {
			atomic.AddInt64(&n.awaited, 1)
			err = m.Await(piece, use)
		}
	}
	return hash.Sum32(), err
}

// sumAll returns whether all could be read.
func sumAll(m *Map, paths []string) bool {
	var all sync.WaitGroup
	var n counts
	lines := make([]string, len(paths))
	for i := range paths {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			sum, err := sum(m, i, &n)
			lines[i] = fmt.Sprintf("%08x %s", sum, paths[i])
			if err != nil {
				lines[i] = fmt.Sprintf("%s: %v", paths[i], err)
				atomic.AddInt64(&n.failed, 1)
			}
		}(i)
	}
	all.Wait()
	for _, line := range lines {
		fmt.Println(line)
	}
	fmt.Printf("pieces: %d were there, %d awaited\n", n.there, n.awaited)
	return n.failed == 0
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "checksum:", err)
		os.Exit(1)
	}
}

func main() {
	paths := os.Args[1:]
	queue, err := NewQueue(maxAwaited)
	fail(err)
	m, err := NewMap(queue, budget, paths)
	fail(err)

	good := sumAll(m, paths) && sumAll(m, paths)

	fail(m.Close())
	fail(queue.Close())
	if !good {
		os.Exit(1)
	}
}
