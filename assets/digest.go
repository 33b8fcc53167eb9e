package assets

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
)

// DigestKind is a hash function that a publisher uses.
type DigestKind string

const (
	KindSHA256 DigestKind = "sha256"
	KindSHA512 DigestKind = "sha512"
)

func (k DigestKind) new() hash.Hash {
	if k == KindSHA512 {
		return sha512.New()
	}
	return sha256.New()
}

// hexLength is how many hexadecimal digits a digest has.
func (k DigestKind) hexLength() int { return 2 * k.new().Size() }

// hashChunk is large enough that SHA instructions and not system calls set
// the pace.
const hashChunk = 1 << 20

// SHA256File hashes a file. It ends early when ctx does.
func SHA256File(ctx context.Context, path string) (string, error) {
	sums, err := hashFile(ctx, path, KindSHA256)
	return sums[KindSHA256], err
}

// hashFile reads a file once for all kinds.
func hashFile(ctx context.Context, path string, kinds ...DigestKind) (map[DigestKind]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("hash: %w", err)
	}
	defer file.Close()
	hashes := map[DigestKind]hash.Hash{}
	for _, kind := range kinds {
		hashes[kind] = kind.new()
	}
	buffer := make([]byte, hashChunk)
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("hash %s: %w", path, err)
		}
		n, err := file.Read(buffer)
		for _, h := range hashes {
			h.Write(buffer[:n])
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("hash %s: %w", path, err)
		}
	}
	sums := map[DigestKind]string{}
	for kind, h := range hashes {
		sums[kind] = hex.EncodeToString(h.Sum(nil))
	}
	return sums, nil
}
