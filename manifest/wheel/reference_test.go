package wheel

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sitefs/sitefs/manifest/digest"
)

// A reference is a Python that reads the same inputs with its own library.
type reference struct {
	in  *json.Encoder
	out *bufio.Reader
}

var startReference = sync.OnceValues(func() (*reference, error) {
	python, err := exec.LookPath("python3")
	if err != nil {
		return nil, err
	}
	const check = "import sys; sys.exit(sys.version_info < (3, 10))" // EntryPoints
	if err := exec.Command(python, "-c", check).Run(); err != nil {
		return nil, fmt.Errorf("%s is no Python 3.10 or later: %w", python, err)
	}
	// It ends with its standard input, when the test does.
	cmd := exec.Command(python, "-I", "testdata/reference.py")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &reference{json.NewEncoder(in), bufio.NewReader(out)}, cmd.Start()
})

// ask returns what Python reads from data, or skips the test without Python.
func ask[T any](t *testing.T, kind string, data []byte) (T, error) {
	t.Helper()
	r, err := startReference()
	if err != nil {
		t.Skipf("no Python to compare with: %v", err)
	}
	if err := r.in.Encode(struct {
		Kind string `json:"kind"`
		Data []byte `json:"data"`
	}{kind, data}); err != nil {
		t.Fatal(err)
	}
	line, err := r.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("Python ended: %v", err)
	}
	var answer struct {
		Result T
		Error  string
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Error != "" {
		return answer.Result, fmt.Errorf("%s", answer.Error)
	}
	return answer.Result, nil
}

// compareZip demands that zipfile reads the same names and bytes from what
// the walk accepts.
func compareZip(t *testing.T, b []byte) {
	a, err := openArchive(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return
	}
	const limit = 16 << 20 // of what a test unpacks
	var total int64
	for _, m := range a.members {
		if total += min(m.size, limit); total >= limit {
			return
		}
	}
	var got [][2]string
	for i := range a.members {
		m := &a.members[i]
		d, err := a.copyMember(io.Discard, m, RecordSum{})
		if err != nil {
			return
		}
		sum := d.String()
		if m.method == methodZstd {
			sum = ""
		}
		got = append(got, [2]string{m.name, sum})
	}
	want, err := ask[[][2]string](t, "zip", b)
	if err != nil {
		t.Fatalf("%d members, zipfile: %v", len(got), err)
	}
	order := func(a, b [2]string) int { return strings.Compare(a[0]+a[1], b[0]+b[1]) }
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	if !slices.Equal(got, want) {
		t.Errorf("members %q, zipfile has %q", got, want)
	}
}

// compareRecord demands that csv reads the same rows from what is accepted.
func compareRecord(t *testing.T, b []byte) {
	rows, err := ParseRecord(b, func(err error) error { return err })
	if err != nil {
		return
	}
	want, err := ask[[][]string](t, "record", b)
	if err != nil {
		t.Fatalf("%d rows, csv: %v", len(rows), err)
	}
	if len(want) != len(rows) {
		t.Fatalf("%d rows %+v, csv has %q", len(rows), rows, want)
	}
	for i, row := range rows {
		f := want[i]
		if len(f) != 3 {
			t.Fatalf("row %+v, csv has %q", row, f)
		}
		size := int64(-1)
		if f[2] != "" {
			size, err = strconv.ParseInt(f[2], 10, 64)
		}
		sum, sumErr := parseSum(f[1])
		if err != nil || sumErr != nil || row.Path != f[0] || row.Size != size || !reflect.DeepEqual(row.Sum, sum) {
			t.Errorf("row %+v, csv has %q", row, f)
		}
	}
}

// comparePoints demands that importlib.metadata, and configparser where it
// knows the syntax, read the same scripts from what is accepted.
func comparePoints(t *testing.T, b []byte) {
	points, _, err := ParseEntryPoints(b)
	if err != nil {
		return
	}
	type answer struct{ Importlib, Configparser [][4]any }
	want, err := ask[answer](t, "points", b)
	if err != nil {
		t.Fatalf("%+v, importlib.metadata: %v", points, err)
	}
	got := make([][4]any, 0, len(points))
	for _, p := range points {
		got = append(got, [4]any{p.Name, p.Module, p.Attr, p.GUI})
	}
	if !reflect.DeepEqual(got, want.Importlib) {
		t.Errorf("%v, importlib.metadata has %v", got, want.Importlib)
	}
	if want.Configparser == nil {
		return
	}
	slices.SortFunc(got, func(a, b [4]any) int { return strings.Compare(a[0].(string), b[0].(string)) })
	if !reflect.DeepEqual(got, want.Configparser) {
		t.Errorf("%v, configparser has %v", got, want.Configparser)
	}
}

// vectorFiles returns every wheel of the vectors, and every file in one whose
// name ends in suffix.
func vectorFiles(t testing.TB, suffix string) (wheels, files [][]byte) {
	t.Helper()
	paths, err := filepath.Glob("testdata/wheels/*/*.whl")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d vectors, error %v", len(paths), err)
	}
	seen := map[digest.Digest]bool{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		wheels = append(wheels, b)
		a, err := openArchive(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			continue
		}
		for i := range a.members {
			if !strings.HasSuffix(a.members[i].name, suffix) {
				continue
			}
			file, err := a.readMember(&a.members[i], 1<<20)
			if err == nil && !seen[digest.Of(file)] {
				seen[digest.Of(file)] = true
				files = append(files, file)
			}
		}
	}
	return wheels, files
}

func FuzzZip(f *testing.F) {
	wheels, _ := vectorFiles(f, "")
	for _, b := range wheels {
		f.Add(b)
	}
	for _, method := range []uint16{methodStored, methodDeflate, methodZstd} {
		f.Add(zipFile{members: []zipMember{{name: "a", data: "aaaaaaaaaaaaaaaa", method: method}}}.bytes())
	}
	f.Add(zipFile{members: []zipMember{deferred16()}, wide: true, comment: "c", suffix: "\x00"}.bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		compareZip(t, b)
		if _, info, err := unpack(b, demo, Options{MaxTotal: 16 << 20}); err == nil {
			if again, err := DecodeInfo(info.Encode()); err != nil || !reflect.DeepEqual(again, info) {
				t.Errorf("Info %+v, decoded %+v, error %v", info, again, err)
			}
		}
	})
}

func FuzzRecord(f *testing.F) {
	_, records := vectorFiles(f, "/RECORD")
	for _, b := range records {
		f.Add(b)
	}
	f.Add([]byte("\"a,\"\"b\",,\r\n\nc d,sha256=,1\n"))
	f.Fuzz(compareRecord)
}

func FuzzEntryPoints(f *testing.F) {
	_, files := vectorFiles(f, "/entry_points.txt")
	for _, b := range files {
		f.Add(b)
	}
	f.Add([]byte("# c\n[x]\na\n[gui_scripts]\n a = b.c : d.e [f]\n[console_scripts]\r\na=b:c\r"))
	f.Fuzz(comparePoints)
}

// TestReference compares with Python what the other tests accept, and what of
// it is still accepted with a bit flipped, every eleventh in turn.
func TestReference(t *testing.T) {
	for _, z := range acceptedZips() {
		b := z.zip.bytes()
		compareZip(t, b)
		if testing.Short() {
			continue
		}
		for bit := 0; bit < 8*len(b); bit += 11 {
			b[bit/8] ^= 1 << (bit % 8)
			compareZip(t, b)
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
	compareRecord(t, []byte("\"a,\"\"b\",,\r\n\nc d,,1\n\"\",\"\",\"\"\n"))
	comparePoints(t, []byte("# c\n[x]\na\n[gui_scripts]\n a = b.c : d.e [f]\n[console_scripts]\r\na=b:c\r"))
}
