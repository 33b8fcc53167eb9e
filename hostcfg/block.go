package hostcfg

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Block is a few lines that we manage in a file that is not ours, between two
// marker comments. The rest of the file, its owner and its mode stay. Several
// blocks with different names can share a file.
type Block struct {
	Path    string
	Name    string // in the markers: letters, digits and -_.
	Content string // "" removes the block
	// Comment starts a comment in the file's format; "" is "#".
	Comment string
}

// ID is "block:PATH#NAME".
func (b Block) ID() string { return "block:" + b.Path + "#" + b.Name }

func (b Block) claims() []claim { return []claim{{path: b.Path, part: true}} }

func (b Block) prepare() (Resource, error) {
	if b.Comment == "" {
		b.Comment = "#"
	}
	faults := []error{checkPath(b.Path), checkWord("block name", b.Name, "-_.")}
	if strings.IndexByte(b.Content, 0) >= 0 || strings.ContainsAny(b.Comment, "\n\x00") {
		faults = append(faults, errors.New("content holds a NUL byte, or the comment sign a line break"))
	}
	if _, _, found, err := b.find(b.Content); found || err != nil {
		faults = append(faults, errors.New("content holds one of its own markers"))
	}
	if b.Content != "" && !strings.HasSuffix(b.Content, "\n") {
		b.Content += "\n"
	}
	return b, errors.Join(faults...)
}

func (b Block) probe(q *query) { q.file(b.Path, "") }

func (b Block) plan(s *state, st *Step) error {
	cur := s.paths[b.Path]
	old := ""
	if cur != nil {
		if cur.typ == "file" && !cur.fetched {
			return fmt.Errorf("%s is larger than %d bytes", b.Path, maxFetch)
		}
		old = string(cur.content)
	}
	text, err := b.edit(old)
	if err != nil {
		return hint.Wrap(fmt.Errorf("%s: %w", b.Path, err), "repair the lines marked fleetctl on the host, then run again")
	}
	if text == old {
		st.sweep(s, b.Path)
		return nil
	}
	content := []byte(text)
	w := fileWrite{path: b.Path, owner: "root", group: "root", mode: 0o644, content: content,
		size: int64(len(content)), sha256: hashOf(content), keepMeta: true}
	if _, err := w.plan(s, st); err != nil {
		return err
	}
	s.writes(&w)
	return nil
}

// writes lets later resources of the plan see the file as it will be.
func (s *state) writes(w *fileWrite) {
	next := pathState{typ: "file", mode: w.mode, owner: w.owner, group: w.group}
	if cur := s.paths[w.path]; cur != nil && w.keepMeta {
		next = *cur
	}
	next.size, next.sha256, next.content, next.fetched = w.size, w.sha256, w.content, true
	s.paths[w.path] = &next
	delete(s.paths, TempPath(w.path))
}

func (b Block) begin() string { return b.Comment + " BEGIN fleetctl " + b.Name }
func (b Block) end() string   { return b.Comment + " END fleetctl " + b.Name }

// find gives the offsets of the block, markers included. Markers that are
// doubled, in the wrong order or without a partner are an error: guessing
// could eat lines that are not ours.
func (b Block) find(text string) (from, to int, found bool, err error) {
	from, to = -1, -1
	offset := 0
	for _, l := range strings.SplitAfter(text, "\n") {
		switch strings.TrimRight(l, " \t\r\n") {
		case b.begin():
			if from >= 0 {
				return 0, 0, false, fmt.Errorf("line %q is there twice", b.begin())
			}
			from = offset
		case b.end():
			if from < 0 || to >= 0 {
				return 0, 0, false, fmt.Errorf("line %q without its begin, or twice", b.end())
			}
			to = offset + len(l)
		}
		offset += len(l)
	}
	if from >= 0 && to < 0 {
		return 0, 0, false, fmt.Errorf("line %q without its end", b.begin())
	}
	return from, to, from >= 0, nil
}

// edit returns the text with the block as it should be: in place when it is
// there, else at the end.
func (b Block) edit(text string) (string, error) {
	from, to, found, err := b.find(text)
	if err != nil {
		return "", err
	}
	block := ""
	if b.Content != "" {
		block = b.begin() + "\n" + b.Content + b.end() + "\n"
	}
	if found {
		return text[:from] + block + text[to:], nil
	}
	if block != "" && text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text + block, nil
}
