// Command delayline joins two network interfaces as a long-haul circuit does: every frame that enters one leaves the
// other after the declared one-way delay, some are lost. It stands in for netem on kernels that have none.
//
//	delayline PARAMETERS INTERFACE INTERFACE
//
// PARAMETERS is a JSON file {"delay_us": N, "loss": 0..1, "buffer_bytes": N}; SIGHUP reads it again without losing
// what is in flight. Frames keep their offload headers (PACKET_VNET_HDR), so a 64 KiB segment costs one read and one
// write. The rate is not limited here: the queueing discipline of the leaving interface does that.
package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// A wake-up costs more than a frame: under load frames are taken in groups this far apart.
	wakeInterval = 100 * time.Microsecond
	niceness     = -10
)

var start = time.Now()

// clock is the monotonic time that everything is due by.
func clock() time.Duration { return time.Since(start) }

type parameters struct {
	DelayMicroseconds int64   `json:"delay_us"`
	Loss              float64 `json:"loss"`
	BufferBytes       int     `json:"buffer_bytes"`
}

func readParameters(path string) (parameters, error) {
	var p parameters
	text, err := os.ReadFile(path)
	if err != nil {
		return p, err
	}
	if err = json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("%s: %w", path, err)
	}
	if p.DelayMicroseconds < 0 || p.Loss < 0 || p.Loss > 1 || p.BufferBytes < 2*frameBytes {
		return p, fmt.Errorf("%s: %+v is out of range (expected delay_us >= 0, loss 0 to 1, buffer_bytes >= %d)",
			path, p, 2*frameBytes)
	}
	return p, nil
}

// direction carries frames from one port to another.
type direction struct {
	from, to *port
	held     *queue
}

func (d *direction) receive(now time.Duration, p *parameters) error {
	return d.from.receive(func(frame []byte) {
		if p.Loss > 0 && rand.Float64() < p.Loss {
			return
		}
		d.held.push(frame, now+time.Duration(p.DelayMicroseconds)*time.Microsecond)
	})
}

func (d *direction) send(now time.Duration) error {
	for {
		frames := d.held.due(now, batch)
		if len(frames) == 0 {
			return nil
		}
		if err := d.to.send(frames); err != nil {
			return err
		}
		d.held.release(len(frames))
	}
}

func (d *direction) resize(bytes int) {
	if d.held == nil || d.held.capacity() != bytes && d.held.empty() {
		d.held = newQueue(bytes)
	}
}

func run(path string, names []string) error {
	p, err := readParameters(path)
	if err != nil {
		return err
	}
	var ports [2]*port
	for i, name := range names {
		if ports[i], err = openPort(name); err != nil {
			return err
		}
	}
	ways := []*direction{{from: ports[0], to: ports[1]}, {from: ports[1], to: ports[0]}}
	for _, way := range ways {
		way.resize(p.BufferBytes)
	}
	var again atomic.Bool
	alarm := onHangup(&again)
	fmt.Println("ready")
	return loop(path, &p, ports, ways, alarm, &again)
}

func loop(path string, p *parameters, ports [2]*port, ways []*direction, alarm int, again *atomic.Bool) error {
	last := clock()
	for {
		if err := wait(ports, alarm, ways); err != nil {
			return err
		}
		if gap := wakeInterval - (clock() - last); gap > 0 {
			pause(gap)
		}
		if again.Swap(false) {
			drain(alarm)
			if fresh, err := readParameters(path); err != nil {
				fmt.Fprintln(os.Stderr, "delayline: kept the old parameters:", err)
			} else {
				*p = fresh
			}
		}
		last = clock()
		for _, way := range ways {
			way.resize(p.BufferBytes)
			if err := way.receive(last, p); err != nil {
				return err
			}
			if err := way.send(last); err != nil {
				return err
			}
		}
	}
}

// onHangup returns a descriptor that becomes readable after a SIGHUP.
func onHangup(again *atomic.Bool) int {
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_NONBLOCK|syscall.O_CLOEXEC); err != nil {
		fatal(err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		for range signals {
			again.Store(true)
			_, _ = syscall.Write(pipe[1], []byte{0})
		}
	}()
	return pipe[0]
}

func drain(alarm int) {
	var scratch [16]byte
	_, _ = syscall.Read(alarm, scratch[:])
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "delayline:", err)
	os.Exit(1)
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: delayline PARAMETERS INTERFACE INTERFACE")
		os.Exit(2)
	}
	runtime.GOMAXPROCS(1)
	runtime.LockOSThread()
	// A busy machine must not stretch the delay; where this is not permitted the line works all the same.
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, niceness)
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fatal(err)
	}
}
