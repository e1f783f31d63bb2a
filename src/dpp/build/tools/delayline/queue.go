package main

import "time"

// queue holds frames in the order of arrival until they are due, in one block of memory that never grows: when it is
// full, new frames are dropped, as by a real circuit.
type queue struct {
	arena   []byte
	entries []entry // a ring: first .. first+count
	first   int
	count   int
	head    int // where the next frame is written
	batch   [][]byte
}

type entry struct {
	start, end int32
	due        time.Duration // since the start of the program
}

const bytesPerEntry = 128 // a queue of nothing but small frames is full a little early

func newQueue(bytes int) *queue {
	return &queue{arena: make([]byte, bytes), entries: make([]entry, bytes/bytesPerEntry+1), batch: make([][]byte, 0, batch)}
}

func (q *queue) capacity() int { return len(q.arena) }
func (q *queue) empty() bool   { return q.count == 0 }

func (q *queue) push(frame []byte, due time.Duration) {
	start, ok := q.room(len(frame))
	if !ok || q.count == len(q.entries) {
		return
	}
	copy(q.arena[start:], frame)
	q.head = start + len(frame)
	q.entries[(q.first+q.count)%len(q.entries)] = entry{int32(start), int32(q.head), due}
	q.count++
}

// room finds where `size` bytes fit without overwriting the oldest frame; a frame is never split at the end of memory.
func (q *queue) room(size int) (int, bool) {
	if q.count == 0 {
		return 0, size <= len(q.arena)
	}
	tail := int(q.entries[q.first].start)
	if q.head > tail {
		if q.head+size <= len(q.arena) {
			return q.head, true
		}
		return 0, size < tail
	}
	return q.head, q.head+size < tail
}

// due returns at most `limit` frames whose time has come; they stay until released.
func (q *queue) due(now time.Duration, limit int) [][]byte {
	q.batch = q.batch[:0]
	for i := 0; i < q.count && i < limit; i++ {
		e := &q.entries[(q.first+i)%len(q.entries)]
		if e.due > now {
			break
		}
		q.batch = append(q.batch, q.arena[e.start:e.end])
	}
	return q.batch
}

func (q *queue) release(n int) {
	q.first = (q.first + n) % len(q.entries)
	q.count -= n
}

// next returns when the oldest frame is due.
func (q *queue) next() (time.Duration, bool) {
	if q.count == 0 {
		return 0, false
	}
	return q.entries[q.first].due, true
}
