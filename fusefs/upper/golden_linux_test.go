package upper

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// goldenRecords are the records of testdata/v1/upper, by directory.
func goldenRecords() map[string][]Record {
	return map[string][]Record{
		".": {
			{Name: "moved", Lower: "lib/pkg"},
			{Name: "meta.so", Lower: "meta.so", Mode: new(uint32(0o600)), UID: new(uint32(7)), GID: new(uint32(8)),
				Mtime: &Time{1234567890, 123456789}, Atime: &Time{-1, 5}, Xattrs: map[string][]byte{"user.x": {0, 255}}},
			{Name: strings.Repeat("n", 255), Whiteout: true},
		},
		"merged": {
			{Name: "not-utf8-\xff", Lower: "lib/\xfe"},
			{Name: ".wh.odd", Lower: "away", Whiteout: true},
		},
	}
}

// goldenJournal is what testdata/v1/journal.txt has: a mutation of which one step is done.
func goldenJournal() journal {
	j := journal{make([]byte, minJournal)}
	copy(j.b, journalMagic)
	j.begin(session{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	j.put(40, Result{unix.ENOTEMPTY, 0})
	j.put(41, Result{0, NodeID(1234)})
	steps := []Step{
		MakeDir("made", 0o755).KeepTime().Own(0, 0).Mtime(Time{99, 100}),
		Move("plain/file", "made/file"),
		Hardlink("made/file", "hard"),
		Exchange("hard", "replaced"),
	}
	var b []byte
	for i := range steps {
		b = steps[i].append(b)
	}
	j.write(42, len(steps), b)
	j.remember(0, 0, Time{77, 88})
	j.run()
	j.advance(1)
	j.lend([]loan{{0o444, 4321, "plain"}})
	return j
}

// readGolden reads journal.txt: lines of an offset and 16 bytes, in hexadecimal.
func readGolden(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/v1/journal.txt")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, minJournal)
	for line := range strings.Lines(string(text)) {
		var at int
		var row string
		if _, err := fmt.Sscanf(line, "%x %s", &at, &row); err != nil {
			t.Fatal(err)
		}
		if _, err := hex.Decode(b[at:], []byte(row)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// copyGolden returns a copy of testdata/v1/upper, with ".wh." for "@wh.": an overlay
// could not hold this repository otherwise.
func copyGolden(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "upper")
	if err := os.CopyFS(dir, os.DirFS("testdata/v1/upper")); err != nil {
		t.Fatal(err)
	}
	var named []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if strings.HasPrefix(filepath.Base(p), "@wh.") {
			named = append(named, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range slices.Backward(named) { // what is below a directory first
		if err := os.Rename(p, filepath.Join(filepath.Dir(p), "."+filepath.Base(p)[1:])); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, sideDir), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestGoldenFormat holds format 1, which must be read for ever.
func TestGoldenFormat(t *testing.T) {
	d := open(t, copyGolden(t), Options{})
	if want := (Base{Tree: "0f1e2d3c", Prefix: "/venv", Python: "3.12.4"}); d.Base() != want {
		t.Errorf("base %+v, want %+v", d.Base(), want)
	}
	names := map[string][]string{
		".":      {"link", "merged", "plain", "replaced"},
		"merged": nil,
		"plain":  {"file"},
	}
	whiteouts := map[string][]string{
		".":      {"gone", strings.Repeat("n", 255), "replaced"},
		"merged": {".wh.odd", "file.py"},
	}
	err := d.Scan(func(dir string, l *Listing) error {
		var entries []string
		for _, e := range l.Entries {
			entries = append(entries, e.Name)
		}
		slices.Sort(entries)
		slices.Sort(l.Whiteouts)
		if !slices.Equal(entries, names[dir]) {
			t.Errorf("%s has the entries %q, want %q", dir, entries, names[dir])
		}
		if !slices.Equal(l.Whiteouts, whiteouts[dir]) {
			t.Errorf("%s has the whiteouts %q, want %q", dir, l.Whiteouts, whiteouts[dir])
		}
		if l.Opaque != (dir == "plain") {
			t.Errorf("%s opaque: %v", dir, l.Opaque)
		}
		if len(l.Ignored) > 0 {
			t.Errorf("%s: ignored %v", dir, l.Ignored)
		}
		checkRecords(t, dir, l.Records)
		delete(names, dir)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(names) > 0 {
		t.Errorf("not visited: %v", names)
	}
}

// checkRecords holds the records of a directory against the golden ones.
func checkRecords(t *testing.T, dir string, have []Record) {
	t.Helper()
	var want []Record
	for _, r := range goldenRecords()[dir] {
		if r.Lower != "" {
			want = append(want, r)
		}
	}
	order := func(a, b Record) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(want, order)
	slices.SortFunc(have, order)
	if !reflect.DeepEqual(have, want) {
		t.Errorf("%s has the records %+v, want %+v", dir, have, want)
	}
}

// TestGoldenWriting holds what is written against what is there.
func TestGoldenWriting(t *testing.T) {
	golden := copyGolden(t)
	for dir, records := range goldenRecords() {
		for _, r := range records {
			want, err := os.ReadFile(filepath.Join(golden, RecordPath(dir, r.Name)))
			if err != nil {
				t.Fatal(err)
			}
			if have, err := encodeRecord(r); err != nil || !bytes.Equal(have, want) {
				t.Errorf("record of %q is %q, %v, want %q", r.Name, have, err, want)
			}
		}
	}
	if !bytes.Equal(goldenJournal().b, readGolden(t)) {
		t.Error("the journal is not as testdata/v1/journal.txt has it")
	}
}

// TestGoldenJournal finishes the mutation that testdata/v1 was left with.
func TestGoldenJournal(t *testing.T) {
	dir := copyGolden(t)
	if err := os.Mkdir(filepath.Join(dir, "made"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, sideDir, journalFile), readGolden(t), 0o600); err != nil {
		t.Fatal(err)
	}
	area := make([]byte, AreaSize)
	s := goldenJournal().session()
	copy(area, s[:])
	d := open(t, dir, Options{Area: area})
	if !d.Resumed() {
		t.Error("not the session that it was")
	}
	for _, name := range []string{"made/file", "replaced"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != "new\n" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	st, err := d.Stat("replaced")
	if err != nil {
		t.Fatal(err)
	}
	for unique, want := range map[uint64]Result{40: {unix.ENOTEMPTY, 0}, 41: {0, NodeID(1234)}, 42: {0, NodeID(st.Ino)}} {
		if r, ok := d.Done(unique | resent); !ok || r != want {
			t.Errorf("request %d ended %+v, %v, want %+v", unique, r, ok, want)
		}
	}
	if r, ok := d.Done(43); ok {
		t.Errorf("request 43 ended %+v, which nobody has sent", r)
	}
}
