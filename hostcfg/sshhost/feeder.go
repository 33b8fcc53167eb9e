package sshhost

import (
	"fmt"
	"io"
	"strconv"
	"sync"
)

// chunkSize is how much of a script's input travels in one counted chunk: big
// enough to make the process per chunk on the far side cheap.
const chunkSize = 128 << 10

// feeder sends a script's input in counted chunks, each "<size>\n<bytes>", and
// a size of 0 at the end.
type feeder struct {
	shell *shell
	mu    sync.Mutex
	ended bool
}

// copy sends all of r. It returns early, without an error, when the script
// has ended meanwhile: what it did not read is of no use.
func (f *feeder) copy(r io.Reader) error {
	buf := make([]byte, chunkSize)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if sent, werr := f.chunk(buf[:n]); werr != nil || !sent {
				return werr
			}
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return f.end()
		default:
			return fmt.Errorf("read the input: %w", err)
		}
	}
}

func (f *feeder) chunk(b []byte) (sent bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return false, nil
	}
	frame := append(strconv.AppendInt(nil, int64(len(b)), 10), '\n')
	return true, f.shell.write(append(frame, b...))
}

// end says, once, that there is no more input.
func (f *feeder) end() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return nil
	}
	f.ended = true
	return f.shell.write([]byte("0\n"))
}
