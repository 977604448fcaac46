package repair

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/wheel"
)

// bodies are what installers write behind the first line of an entry point's
// script, given the module, the first part of the attribute and the whole of it:
// uv, pip from 26 on, pip before, and pip before 19.
var bodies = []string{`# -*- coding: utf-8 -*-
import sys
from %s import %s
if __name__ == "__main__":
    if sys.argv[0].endswith("-script.pyw"):
        sys.argv[0] = sys.argv[0][:-11]
    elif sys.argv[0].endswith(".exe"):
        sys.argv[0] = sys.argv[0][:-4]
    sys.exit(%s())
`, `import sys
from %s import %s
if __name__ == '__main__':
    sys.argv[0] = sys.argv[0].removesuffix('.exe')
    sys.exit(%s())
`, `# -*- coding: utf-8 -*-
import re
import sys
from %s import %s
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\.pyw|\.exe)?$', '', sys.argv[0])
    sys.exit(%s())
`, `
# -*- coding: utf-8 -*-
import re
import sys

from %s import %s

if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\.pyw?|\.exe)?$', '', sys.argv[0])
    sys.exit(%s())
`}

// Which of the bodies works with every Python is written where none is recorded.
const (
	uvBody  = 0
	pipBody = 2
)

// entryPoints plans the scripts of entry points: those that RECORD lists, or all if
// the installer hadn't listed them yet.
func (m *mending) entryPoints() {
	if m.d.Broken != nil || !m.d.Finished {
		for _, e := range m.info.EntryPoints {
			m.script("bin/"+e.Name, m.bodiesOf(e))
		}
		return
	}
	shipped := map[string]bool{}
	for i := range m.info.Files {
		shipped[m.place(&m.info.Files[i])] = true
	}
	for p := range m.rows {
		if path.Dir(p) != "bin" || shipped[p] {
			continue
		}
		if e, ok := m.entryPoint(path.Base(p)); ok {
			m.script(p, m.bodiesOf(e))
		}
	}
}

// versioned matches the names that pip gives its own script beside "pip".
var versioned = regexp.MustCompile(`^pip\d+(\.\d+)?$`)

// entryPoint returns the entry point whose script has the name.
func (m *mending) entryPoint(name string) (wheel.EntryPoint, bool) {
	if versioned.MatchString(name) {
		name = "pip"
	}
	for _, e := range m.info.EntryPoints {
		if e.Name == name {
			return e, true
		}
	}
	return wheel.EntryPoint{}, false
}

// bodiesOf returns the scripts that installers write for an entry point, the one
// to write where nothing is recorded first.
func (m *mending) bodiesOf(e wheel.EntryPoint) []string {
	first, _, _ := strings.Cut(e.Attr, ".")
	usual := pipBody
	if m.uv {
		usual = uvBody
	}
	var scripts []string
	for i := range bodies {
		body := fmt.Sprintf(bodies[(usual+i)%len(bodies)], e.Module, first, e.Attr)
		scripts = append(scripts, m.eachHead("\n"+body)...)
	}
	return scripts
}

// eachHead returns rest behind each beginning that the environment's scripts have.
func (m *mending) eachHead(rest string) []string {
	var texts []string
	for _, head := range m.heads {
		texts = append(texts, head+rest)
	}
	return texts
}

// script plans the script at p: the text that RECORD has the hash of, else the
// first one, which RECORD is told of.
func (m *mending) script(p string, texts []string) {
	row, listed := m.rows[p]
	text := texts[0]
	for _, t := range texts {
		if digest.Of([]byte(t)) == sum(row) {
			text = t
		}
	}
	there, err := readRegular(filepath.Join(m.dir, filepath.FromSlash(p)))
	state := edited
	switch {
	case errors.Is(err, fs.ErrNotExist):
		state = absent
	case err != nil: // whatever it is, it isn't ours
	case listed && digest.Of(there) == sum(row), !listed && slices.Contains(texts, string(there)):
		state = same
	case strings.HasPrefix(text, strings.TrimRight(string(there), "\x00")):
		state = cutOff
	}
	kept := state == same || state == edited && !m.DiscardChanges
	switch {
	case kept && !listed && err == nil:
		m.list(p, there)
	case !kept && digest.Of([]byte(text)) != sum(row):
		m.list(p, []byte(text))
	}
	m.decide(p, state, 0o755, writeText(text))
}

// sum returns the digest that a row lists, zero if it lists none.
func sum(row wheel.RecordRow) digest.Digest {
	if row.Sum.Algorithm != "sha256" {
		return digest.Digest{}
	}
	return digest.Digest(row.Sum.Sum)
}

func writeText(text string) func(*os.File) error {
	return func(out *os.File) error {
		_, err := out.WriteString(text)
		return err
	}
}

// list puts a row for the text at p into RECORD.
func (m *mending) list(p string, text []byte) {
	d := digest.Of(text)
	m.rows[p] = wheel.RecordRow{Path: m.relative(p), Sum: wheel.RecordSum{Algorithm: "sha256", Sum: d[:]}, Size: int64(len(text))}
	m.anew = true
}

// relative returns a path of the environment as RECORD lists it.
func (m *mending) relative(p string) string {
	if rest, ok := strings.CutPrefix(p, m.d.Site+"/"); ok {
		return rest
	}
	return strings.Repeat("../", strings.Count(m.d.Site, "/")+1) + p
}

// own plans the files that installers write into the dist-info folder.
func (m *mending) own() {
	texts := map[string][]string{"INSTALLER": {"pip\n", "uv", "uv\n"}, "REQUESTED": {""}}
	if m.uv {
		texts["INSTALLER"] = []string{"uv", "pip\n", "uv\n"}
	}
	for _, name := range written {
		p := m.d.Info + "/" + name
		row, listed := m.rows[p]
		there, err := readRegular(filepath.Join(m.dir, filepath.FromSlash(p)))
		switch {
		case name == "RECORD":
		case err == nil && !listed:
			m.list(p, there)
		case err == nil:
		case name == "INSTALLER" || listed && texts[name] != nil:
			m.restoreOwn(p, row, texts[name])
		case listed && strings.HasPrefix(name, "uv_"):
			delete(m.rows, p) // when uv last built or fetched it: uv does without
			m.anew = true
		case listed:
			m.report.fail(p, fmt.Errorf("no wheel has it: install %s again", m.d))
		}
	}
}

// restoreOwn plans the file at p with that of texts that the row has the hash of,
// else with the first.
func (m *mending) restoreOwn(p string, row wheel.RecordRow, texts []string) {
	text := texts[0]
	for _, t := range texts {
		if digest.Of([]byte(t)) == sum(row) {
			text = t
		}
	}
	if digest.Of([]byte(text)) != sum(row) {
		m.list(p, []byte(text))
	}
	m.decide(p, absent, 0o644, writeText(text))
}

// record plans RECORD, with a row for each file of the wheel and those that were
// listed beside them.
func (m *mending) record() {
	for i := range m.info.Files {
		f := &m.info.Files[i]
		if p := m.place(f); !f.Python {
			m.rows[p] = wheel.RecordRow{Path: m.relative(p), Sum: wheel.RecordSum{Algorithm: "sha256", Sum: f.Digest[:]}, Size: f.Size}
		}
	}
	self := m.d.Info + "/RECORD"
	m.rows[self] = wheel.RecordRow{Path: m.relative(self), Size: -1}
	rows := make([]wheel.RecordRow, 0, len(m.rows))
	for _, row := range m.rows {
		rows = append(rows, row)
	}
	m.files = append(m.files, &file{path: self, mode: fs.FileMode(0o644), write: writeText(string(wheel.FormatRecord(rows)))})
}
