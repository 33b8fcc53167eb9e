package assets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
)

// downloader fetches over HTTP: proxies as the environment names them, retries,
// and resumption of what an earlier run left.
type downloader struct {
	client *http.Client
	// stall is how long a server may take to answer, and to send more.
	stall time.Duration
	tries int
	// pause before the second try; it doubles with each.
	pause    time.Duration
	progress func(done, total int64) // total is -1 when unknown
}

// errPermanent marks what trying again would not change.
type errPermanent struct{ error }

func (e errPermanent) Unwrap() error { return e.error }

// maxList bounds the lists and signatures that are read into memory.
const maxList = 4 << 20

// list fetches a small file.
func (d downloader) list(ctx context.Context, url string) ([]byte, error) {
	var data []byte
	err := d.retry(ctx, url, func(ctx context.Context, alive func()) error {
		response, err := d.get(ctx, url, 0, "")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return statusError(response)
		}
		alive()
		data, err = io.ReadAll(io.LimitReader(response.Body, maxList))
		return err
	})
	return data, err
}

// file fetches into path, going on where path ends if the server can.
func (d downloader) file(ctx context.Context, url, path string) error {
	return d.retry(ctx, url, func(ctx context.Context, alive func()) error {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return errPermanent{err}
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return errPermanent{err}
		}
		return d.fill(ctx, url, file, info.Size(), alive)
	})
}

// fill appends the rest of a file, or begins anew where the server sends all.
func (d downloader) fill(ctx context.Context, url string, file *os.File, have int64, alive func()) error {
	tag := readTag(file.Name())
	if tag == "" && have > 0 { // nothing says that the rest belongs to it
		have = 0
	}
	response, err := d.get(ctx, url, have, tag)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK:
		have = 0
		if err := file.Truncate(0); err != nil {
			return errPermanent{err}
		}
		if err := writeTag(file.Name(), strongTag(response)); err != nil {
			return errPermanent{err}
		}
	case http.StatusRequestedRangeNotSatisfiable:
		return nil // it is complete, or nonsense: the digest tells
	default:
		return statusError(response)
	}
	total := int64(-1)
	if response.ContentLength >= 0 {
		total = have + response.ContentLength
	}
	buffer := make([]byte, 256<<10)
	for {
		n, err := response.Body.Read(buffer)
		alive()
		if _, failed := file.Write(buffer[:n]); failed != nil {
			return errPermanent{failed}
		}
		have += int64(n)
		if d.progress != nil {
			d.progress(have, total)
		}
		if err == io.EOF {
			if total >= 0 && have != total {
				return fmt.Errorf("the server ended after %d of %d bytes", have, total)
			}
			return file.Sync()
		}
		if err != nil {
			return err
		}
	}
}

func (d downloader) get(ctx context.Context, url string, from int64, tag string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, errPermanent{err}
	}
	// Go would unpack a body that is sent packed, and digests would not match.
	request.Header.Set("Accept-Encoding", "identity")
	if from > 0 {
		request.Header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
		request.Header.Set("If-Range", tag)
	}
	return d.client.Do(request)
}

// retry tries several times. An attempt is cut off when alive was not called
// for the stall time.
func (d downloader) retry(ctx context.Context, url string, attempt func(ctx context.Context, alive func()) error) error {
	pause := d.pause
	var err error
	for try := 1; ; try++ {
		err = d.once(ctx, attempt)
		if err == nil {
			return nil
		}
		var permanent errPermanent
		if ctx.Err() != nil || errors.As(err, &permanent) || try >= d.tries {
			break
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause *= 2
	}
	return hint.WithCode(hint.Wrap(fmt.Errorf("download %s: %w", url, errors.Join(ctx.Err(), err)),
		"check the network and HTTPS_PROXY; what was received is kept, and the same command goes on from there"), hint.CodeUnreachable)
}

func (d downloader) once(ctx context.Context, attempt func(ctx context.Context, alive func()) error) error {
	stalled := fmt.Errorf("nothing came for %s", d.stall)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(d.stall, func() { cancel(stalled) })
	defer watchdog.Stop()
	err := attempt(ctx, func() { watchdog.Reset(d.stall) })
	if err != nil && errors.Is(context.Cause(ctx), stalled) {
		return stalled
	}
	return err
}

func statusError(response *http.Response) error {
	err := fmt.Errorf("the server answered %s", response.Status)
	if response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= 500 {
		return err
	}
	return errPermanent{err}
}

// The validator of a partial file lies beside it: only with it can be asked
// for the rest of the same content.
func tagPath(path string) string { return path + ".tag" }

func readTag(path string) string {
	data, err := os.ReadFile(tagPath(path))
	if err != nil {
		return ""
	}
	return string(data)
}

func writeTag(path, tag string) error {
	if tag == "" {
		if err := os.Remove(tagPath(path)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	return os.WriteFile(tagPath(path), []byte(tag), 0o600)
}

// strongTag is what If-Range accepts: a strong ETag, or the date.
func strongTag(response *http.Response) string {
	if tag := response.Header.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		return tag
	}
	return response.Header.Get("Last-Modified")
}
