// Package audit keeps what was done to a fleet: who, what, to which device,
// when, from where, with what outcome. Records are only ever appended, synced
// before they count, and each carries the hash of the one before it, so that an
// edited or removed record shows, and beside them a note of the last one, so
// that a cut end shows too. Who can write the files can still forge all of it:
// the hash in the server's log, kept elsewhere, is what finds that.
package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/internal/secretfile"
)

const maxLine = 64 << 10 // bytes of one record

// Record is one thing that was done, or tried.
type Record struct {
	Sequence uint64    `json:"sequence"` // 1, 2, 3, …
	At       time.Time `json:"at"`
	Who      string    `json:"who"`               // name of the user
	Subject  string    `json:"subject,omitempty"` // the issuer's id of the user
	Action   string    `json:"action"`
	Device   string    `json:"device,omitempty"`
	From     string    `json:"from,omitempty"` // address of the client
	Outcome  string    `json:"outcome"`        // "ok", or why not
	Previous string    `json:"previous"`       // Hash of the record before
	Hash     string    `json:"hash"`           // SHA-256 of this record without its hash
}

// sum is the hash that belongs to r.
func (r Record) sum() (string, error) {
	r.Hash = ""
	data, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:]), nil
}

// Log is an open audit log. It is safe for concurrent use, by one process.
type Log struct {
	path string

	mu     sync.Mutex
	file   *os.File
	head   *os.File
	last   Record // written, and perhaps not on disk yet
	broken error  // of a write: the log is not trusted to go on

	// Who holds syncing brings all that was written by then to disk, for all
	// who wait: many records at once cost little more than one.
	syncing sync.Mutex
	synced  uint64 // number of the newest record that is on disk; guarded by syncing
}

// Open opens the log in dir, which it makes. The half of a record that a crash
// left behind is removed: nobody was told that it was written.
func Open(dir string) (_ *Log, err error) {
	if err := secretfile.EnsureDir(dir); err != nil {
		return nil, err
	}
	l := &Log{path: filepath.Join(dir, "audit.jsonl")}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open audit log: %w", err), l.Close())
		}
	}()
	if l.file, err = os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	if l.head, err = os.OpenFile(filepath.Join(dir, "head.json"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	return l, l.recover()
}

// recover finds the last whole record. Where that cannot be read, numbers go on
// from the note of the last one; Query shows the damage.
func (l *Log) recover() error {
	noted, err := readHead(l.head)
	if err != nil {
		return err
	}
	var last []byte
	whole, err := lines(l.file, func(line []byte) { last = bytes.Clone(line) })
	if err != nil {
		return err
	}
	if err := l.file.Truncate(whole); err != nil {
		return err
	}
	if json.Unmarshal(last, &l.last) != nil || l.last.Sequence < noted.Sequence {
		l.last = noted
	}
	return nil
}

// Close closes the log.
func (l *Log) Close() error {
	var errs []error
	for _, f := range []*os.File{l.file, l.head} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// Usable is nil while records can be written: who must not act unseen asks first.
func (l *Log) Usable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

// Append writes r, whose number, hashes and time it sets, and gives it as
// written. It is on disk when Append returns.
func (l *Log) Append(r Record, at time.Time) (Record, error) {
	r, err := l.write(r, at)
	if err != nil {
		return Record{}, err
	}
	if err := l.sync(r.Sequence); err != nil {
		return Record{}, err
	}
	return r, nil
}

func (l *Log) write(r Record, at time.Time) (Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return Record{}, l.broken
	}
	r.Sequence, r.Previous, r.At = l.last.Sequence+1, l.last.Hash, at.UTC().Truncate(time.Millisecond)
	var err error
	if r.Hash, err = r.sum(); err != nil {
		return Record{}, fmt.Errorf("encode audit record: %w", err)
	}
	line, err := json.Marshal(r)
	if err != nil {
		return Record{}, fmt.Errorf("encode audit record: %w", err)
	}
	if len(line) >= maxLine {
		return Record{}, fmt.Errorf("encode audit record: %d bytes are too many", len(line))
	}
	err = l.inPlace()
	if err == nil {
		_, err = l.file.Write(append(line, '\n'))
	}
	if err != nil {
		return Record{}, l.fail(err)
	}
	l.last = r
	return r, nil
}

// sync returns when the record of a number is on disk, and noted as written.
func (l *Log) sync(number uint64) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if l.synced >= number {
		return nil
	}
	l.mu.Lock()
	newest, err := l.last, l.broken
	l.mu.Unlock()
	if err != nil {
		return err
	}
	if err = l.file.Sync(); err == nil {
		err = writeHead(l.head, newest)
	}
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.fail(err)
	}
	l.synced = newest.Sequence
	return nil
}

// fail ends the log's use; mu is held.
func (l *Log) fail(err error) error {
	l.broken = fmt.Errorf("write audit record: %w", err)
	return l.broken
}

// inPlace refuses to write to a file that is not the log any more: an editor
// puts a new one in its place, and records in the old one would be lost.
func (l *Log) inPlace() error {
	ours, err := l.file.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(l.path)
	if err != nil {
		return err
	}
	if !os.SameFile(ours, there) {
		return fmt.Errorf("%s was replaced by another file", l.path)
	}
	return nil
}

// headSize makes every note as long as every other, so that it is one write.
const headSize = 256

func writeHead(f *os.File, r Record) error {
	data, err := json.Marshal(Record{Sequence: r.Sequence, Hash: r.Hash})
	if err != nil {
		return err
	}
	note := bytes.Repeat([]byte(" "), headSize-1)
	copy(note, data)
	if _, err := f.WriteAt(append(note, '\n'), 0); err != nil {
		return err
	}
	return f.Sync()
}

func readHead(f *os.File) (Record, error) {
	var r Record
	data, err := io.ReadAll(io.NewSectionReader(f, 0, headSize))
	if err == nil && len(bytes.TrimSpace(data)) > 0 {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return r, nil
}

// lines calls each for every line that ends, and says where the last one does.
func lines(f *os.File, each func([]byte)) (int64, error) {
	reader := bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), maxLine)
	var offset int64
	for {
		line, err := reader.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return offset, nil
		case errors.Is(err, bufio.ErrBufferFull):
			// Longer than any record of ours: not a record, but not ours to cut.
			rest, err := reader.ReadBytes('\n')
			if errors.Is(err, io.EOF) {
				return offset + maxLine + int64(len(rest)), nil
			}
			if err != nil {
				return offset, err
			}
			offset += maxLine + int64(len(rest))
			each(nil)
			continue
		case err != nil:
			return offset, err
		}
		offset += int64(len(line))
		each(line)
	}
}
