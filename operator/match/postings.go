package match

import "slices"

// postings lists what is found under a term.
type postings map[term]set

func (p postings) add(t term, name string) {
	if p[t] == nil {
		p[t] = set{}
	}
	p[t][name] = struct{}{}
}

func (p postings) remove(t term, name string) {
	delete(p[t], name)
	if len(p[t]) == 0 {
		delete(p, t)
	}
}

func diff(before, after set) Change {
	var c Change
	for name := range after {
		if _, was := before[name]; !was {
			c.Joined = append(c.Joined, name)
		}
	}
	for name := range before {
		if _, is := after[name]; !is {
			c.Left = append(c.Left, name)
		}
	}
	slices.Sort(c.Joined)
	slices.Sort(c.Left)
	return c
}
