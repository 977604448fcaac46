package session

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/sitefs/sitefs/manifest"
	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/tree"
)

// Stored returns the environment of a tree that is in the store.
func (s *Session) Stored(ctx context.Context, name string) (*Environment, error) {
	d, err := digest.Parse(name)
	if err != nil {
		return nil, err
	}
	if !s.Store.HasTree(d) {
		return nil, fmt.Errorf("the store %s has no tree %s; `sitefs list` shows those that it has", s.Store.Dir(), d)
	}
	t, err := s.Store.OpenTree(d, "/")
	if err != nil {
		return nil, err
	}
	m, err := manifest.Decode(t.Meta())
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", d, err)
	}
	exe, err := interpreterOf(t)
	if err != nil {
		return nil, err
	}
	finder, err := s.finder()
	if err != nil {
		return nil, err
	}
	py, err := finder.Find(ctx, interp.Request{Python: exe, Dir: s.Dir})
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", d, err)
	}
	if got := manifest.PythonOf(py); got != m.Python {
		return nil, fmt.Errorf("tree %s is for %s, and %s is %s now: mount its lock file instead", d, m.Python, exe, got)
	}
	return &Environment{Tree: d, Name: m.Prompt, Source: "tree " + d.String(), Python: py.Executable, File: fileOf(py.Executable), Code: codeOf(py)}, nil
}

// interpreterOf returns where bin/python leads to.
func interpreterOf(t *tree.Tree) (string, error) {
	const most = 8 // links, one to the other; an environment has three
	file := "bin/python"
	for range most {
		id, _, err := t.Find(file)
		if err != nil {
			return "", err
		}
		link, err := t.Link(id)
		if err != nil {
			return "", err
		}
		if strings.HasPrefix(string(link), "/") {
			return string(link), nil
		}
		file = path.Join(path.Dir(file), string(link))
	}
	return "", fmt.Errorf("tree %s: bin/python leads nowhere", t.Digest())
}
