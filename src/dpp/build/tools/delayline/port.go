package main

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
	"unsafe"
)

const (
	batch          = 32
	vnetHeader     = 10
	frameBytes     = vnetHeader + 14 + 65536 + 64
	socketBuffer   = 16 << 20
	ethPAll        = 0x0300 // ETH_P_ALL in network byte order
	packetVnetHdr  = 15
	ignoreOutgoing = 23
	solPacket      = 263
	soSndbufForce  = 32
	soRcvbufForce  = 33
)

type message struct {
	header syscall.Msghdr
	length uint32
	_      [4]byte
}

// port is one interface, read and written as raw frames with their offload headers.
type port struct {
	name     string
	fd       int
	incoming [batch]message
	outgoing [batch]message
	inVector [batch]syscall.Iovec
	outVec   [batch]syscall.Iovec
	buffer   []byte
}

func openPort(name string) (*port, error) {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: packet socket: %w", name, err)
	}
	options := []struct{ level, name, value int }{
		{solPacket, packetVnetHdr, 1},
		{solPacket, ignoreOutgoing, 1},
		{syscall.SOL_SOCKET, soRcvbufForce, socketBuffer},
		{syscall.SOL_SOCKET, soSndbufForce, socketBuffer},
	}
	for _, option := range options {
		if err = syscall.SetsockoptInt(fd, option.level, option.name, option.value); err != nil {
			return nil, fmt.Errorf("%s: socket option %d: %w", name, option.name, err)
		}
	}
	if err = syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: ethPAll, Ifindex: device.Index}); err != nil {
		return nil, fmt.Errorf("%s: bind: %w", name, err)
	}
	p := &port{name: name, fd: fd, buffer: make([]byte, batch*frameBytes)}
	for i := range p.incoming {
		p.inVector[i] = syscall.Iovec{Base: &p.buffer[i*frameBytes], Len: frameBytes}
		p.incoming[i].header = syscall.Msghdr{Iov: &p.inVector[i], Iovlen: 1}
		p.outgoing[i].header = syscall.Msghdr{Iov: &p.outVec[i], Iovlen: 1}
	}
	return p, nil
}

// receive hands every waiting frame to `take`, which must copy it.
func (p *port) receive(take func([]byte)) error {
	for {
		n, _, errno := syscall.Syscall6(syscall.SYS_RECVMMSG, uintptr(p.fd), uintptr(unsafe.Pointer(&p.incoming[0])), batch, 0, 0, 0)
		switch {
		case errno == syscall.EAGAIN || errno == syscall.EINTR:
			return nil
		case errno == syscall.ENETDOWN: // the interface is administratively down: it may come back
			return nil
		case errno != 0:
			return fmt.Errorf("%s: receive: %w", p.name, errno)
		}
		for i := 0; i < int(n); i++ {
			if length := int(p.incoming[i].length); length <= frameBytes {
				take(p.buffer[i*frameBytes : i*frameBytes+length])
			}
		}
		if n < batch {
			return nil
		}
	}
}

// send puts frames on the interface; those that its queue has no room for are lost, as at any full port.
func (p *port) send(frames [][]byte) error {
	for i, frame := range frames {
		p.outVec[i] = syscall.Iovec{Base: &frame[0], Len: uint64(len(frame))}
	}
	for sent := 0; sent < len(frames); {
		n, _, errno := syscall.Syscall6(sysSendmmsg, uintptr(p.fd), uintptr(unsafe.Pointer(&p.outgoing[sent])), uintptr(len(frames)-sent), 0, 0, 0)
		switch {
		case errno == 0:
			sent += int(n)
		case errno == syscall.EINTR:
		case errno == syscall.ENXIO || errno == syscall.ENODEV:
			return fmt.Errorf("%s: send: %w", p.name, errno)
		default:
			sent++
		}
	}
	return nil
}

type pollEntry struct {
	fd      int32
	events  int16
	revents int16
}

// wait sleeps until a frame arrives, a held frame is due or the alarm sounds.
func wait(ports [2]*port, alarm int, ways []*direction) error {
	entries := [3]pollEntry{{fd: int32(ports[0].fd), events: 1}, {fd: int32(ports[1].fd), events: 1}, {fd: int32(alarm), events: 1}}
	var timeout *syscall.Timespec
	for _, way := range ways {
		if due, held := way.held.next(); held {
			rest := max(due-clock(), 0)
			if spec := syscall.NsecToTimespec(rest.Nanoseconds()); timeout == nil || timeout.Nano() > spec.Nano() {
				timeout = &spec
			}
		}
	}
	_, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&entries[0])), 3, uintptr(unsafe.Pointer(timeout)), 0, 0, 0)
	if errno != 0 && !errors.Is(errno, syscall.EINTR) {
		return fmt.Errorf("wait: %w", errno)
	}
	return nil
}

func pause(d time.Duration) {
	spec := syscall.NsecToTimespec(d.Nanoseconds())
	_ = syscall.Nanosleep(&spec, nil)
}
