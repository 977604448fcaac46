package store

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/wheel"
)

func TestIngest(t *testing.T) {
	s := newStore(t)
	entered := time.Unix(1_700_000_000, 0)
	s.now = func() time.Time { return entered }
	w := demoWheel(t)
	i := newIngest(t, s)
	var progress atomic.Int64
	added, err := add(i, w, AddOptions{
		Want:     map[string]string{"sha256": w.digest().String(), "md5": "not looked at"},
		Progress: func(n int64) { progress.Add(n) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if added.Digest != w.digest() || !added.New || added.Info.Name != "demo" {
		t.Errorf("added %+v", added)
	}
	if progress.Load() != added.Info.Size() {
		t.Errorf("progress told of %d bytes, want %d", progress.Load(), added.Info.Size())
	}
	if s.HasWheel(w.digest()) {
		t.Error("the wheel is there before Commit")
	}
	expectFiles(t, s, "blobs", 0)
	if err := i.Commit(); err != nil {
		t.Fatal(err)
	}
	expectWheel(t, s, w)
	expectNoTmp(t, s)
	expectFiles(t, s, "blobs", len(added.Info.Files)-1) // two are equal
	if at, err := s.WheelTime(w.digest()); err != nil || !at.Equal(entered) {
		t.Errorf("entered at %v, %v, want %v", at, err, entered)
	}
	if info, err := s.Info(w.digest()); err != nil || !reflect.DeepEqual(info, added.Info) {
		t.Errorf("info is %+v, %v, want %+v", info, err, added.Info)
	}
	if _, err := s.Info(digest.Of(nil)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("info of a wheel that isn't there: %v, want %v", err, fs.ErrNotExist)
	}
	if err := i.Commit(); err == nil {
		t.Error("a second Commit succeeds")
	}
}

// TestIngestAgain shows that a wheel that is there already stays as it is.
func TestIngestAgain(t *testing.T) {
	w := demoWheel(t)
	for _, o := range []AddOptions{{}, {Want: map[string]string{"sha256": w.digest().String()}}} {
		s := newStore(t)
		s.now = func() time.Time { return time.Unix(1, 0) }
		ingest(t, s, w)
		s.now = func() time.Time { return time.Unix(2, 0) }
		i := newIngest(t, s)
		added, err := add(i, w, o)
		if err != nil || added.New || added.Digest != w.digest() || added.Info.Name != "demo" {
			t.Errorf("%v: added %+v, %v", o, added, err)
		}
		if err := i.Commit(); err != nil {
			t.Fatal(err)
		}
		if at, err := s.WheelTime(w.digest()); err != nil || at.Unix() != 1 {
			t.Errorf("%v: entered at %v, %v, want the first time", o, at, err)
		}
		expectWheel(t, s, w)
		expectNoTmp(t, s)
	}
}

// TestIngestShares shows that wheels with equal files share blobs, in one ingest
// and across two.
func TestIngestShares(t *testing.T) {
	s := newStore(t)
	files := func(name string) map[string]string {
		return map[string]string{name + "/__init__.py": "", name + "/shared.py": "shared\n"}
	}
	a, b, c := makeWheel(t, "aa", files("aa"), nil), makeWheel(t, "bb", files("bb"), nil), makeWheel(t, "cc", files("cc"), nil)
	ingest(t, s, a, b)
	ingest(t, s, c)
	for _, w := range []testWheel{a, b, c} {
		expectWheel(t, s, w)
	}
	expectFiles(t, s, "blobs", 2+1+3) // "", shared; WHEEL; a METADATA for each
}

// TestBadAmongGood shows that a wheel that is refused leaves nothing and
// disturbs no other, though it shares files with it.
func TestBadAmongGood(t *testing.T) {
	files := map[string]string{"demo/__init__.py": "", "demo/core.py": "answer = 42\n", "demo/zz.py": "z = 1\n"}
	bad := makeWheel(t, "bad", files, map[string]string{"demo/zz.py": "z = 2\n"})
	truncated := demoWheel(t)
	truncated.data = truncated.data[:len(truncated.data)-40]
	good := demoWheel(t)
	tests := []struct {
		name  string
		wheel testWheel
		opt   AddOptions
		want  string
	}{
		{"RECORD is wrong", bad, AddOptions{}, "demo/zz.py"},
		{"truncated", truncated, AddOptions{}, truncated.filename},
		{"another file", good, AddOptions{Want: map[string]string{"sha256": strings.Repeat("0", 64)}}, strings.Repeat("0", 64)},
		{"another and broken file", truncated, AddOptions{Want: map[string]string{"sha256": good.digest().String()}}, good.digest().String()},
		{"weak hash alone", good, AddOptions{Want: map[string]string{"md5": "00"}}, "md5"},
		{"misnamed", testWheel{"demo.whl", good.data}, AddOptions{}, "demo.whl"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newStore(t)
			i := newIngest(t, s)
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := add(i, good, AddOptions{}); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if _, err := add(i, test.wheel, test.opt); err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error is %v, want one that says %q", err, test.want)
				}
			})
			wg.Wait()
			expectFiles(t, s, "tmp", 5-1) // what good brings: two of its five files are equal
			if err := i.Commit(); err != nil {
				t.Fatal(err)
			}
			expectWheel(t, s, good)
			expectFiles(t, s, "wheels", 1)
			expectFiles(t, s, "blobs", 4)
			expectNoTmp(t, s)
		})
	}
}

// TestAllowBadRecord installs what is there, not what RECORD says: even where
// RECORD promises bytes that the store or another file has.
func TestAllowBadRecord(t *testing.T) {
	s := newStore(t)
	ingest(t, s, makeWheel(t, "aa", map[string]string{"aa.py": "stored\n"}, nil))
	w := makeWheel(t, "bb", map[string]string{
		"bb/lie1.py": "one\n", "bb/lie2.py": "two\n", "bb/twin.py": "twin\n",
	}, map[string]string{
		"bb/lie1.py": "stored\n", "bb/lie2.py": "twin\n",
	})
	i := newIngest(t, s)
	var bad *wheel.Error
	if _, err := add(i, w, AddOptions{}); !errors.As(err, &bad) || !bad.Record {
		t.Fatalf("error is %v, want one of RECORD", err)
	}
	added, err := add(i, w, AddOptions{AllowBadRecord: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(added.Info.Warnings) == 0 {
		t.Error("no warning")
	}
	if err := i.Commit(); err != nil {
		t.Fatal(err)
	}
	expectWheel(t, s, w)
	for _, f := range added.Info.Files {
		if strings.HasPrefix(f.Path, "bb/") {
			want := map[string]string{"bb/lie1.py": "one\n", "bb/lie2.py": "two\n", "bb/twin.py": "twin\n"}[f.Path]
			if b, err := s.ReadBlob(f.Digest); err != nil || string(b) != want {
				t.Errorf("%s holds %q, %v, want %q", f.Path, b, err, want)
			}
		}
	}
}

// TestStrongerHash finds a wheel by the hashes it was asked for by.
func TestStrongerHash(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	w := demoWheel(t)
	sum := sha512.Sum512(w.data)
	hash := hex.EncodeToString(sum[:])
	ingest(t, s, w)
	if d, ok, err := s.WheelByHash(ctx, "sha512", hash); ok || err != nil {
		t.Errorf("before: %v, %v, %v", d, ok, err)
	}
	i := newIngest(t, s)
	if _, err := add(i, w, AddOptions{Want: map[string]string{"sha512": hash}}); err != nil {
		t.Fatal(err)
	}
	if err := i.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.path("catalog")); err != nil {
		t.Fatal(err)
	}
	if d, ok, err := s.WheelByHash(ctx, "sha512", hash); d != w.digest() || !ok || err != nil {
		t.Errorf("by sha512: %v, %v, %v, want %v", d, ok, err, w.digest())
	}
	if _, ok, err := s.WheelByHash(ctx, "md5", "00"); ok || err != nil {
		t.Errorf("by md5: %v, %v, want none", ok, err)
	}
	if _, _, err := s.WheelByHash(ctx, "sha256", "00"); err == nil {
		t.Error("a sha256 of two digits is accepted")
	}
}

// TestDamagedBlob shows that an ingest puts right a blob that was cut short.
func TestDamagedBlob(t *testing.T) {
	s := newStore(t)
	path := s.path(blobName(digest.Of([]byte("answer = 42\n"))))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, path, "answer")
	ingest(t, s, demoWheel(t))
	expectWheel(t, s, demoWheel(t))
}

func TestCancel(t *testing.T) {
	s := newStore(t)
	i := newIngest(t, s)
	ctx, cancel := context.WithCancel(context.Background())
	w := demoWheel(t)
	_, err := i.Add(ctx, bytes.NewReader(w.data), int64(len(w.data)), w.filename, AddOptions{Progress: func(int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want %v", err, context.Canceled)
	}
	expectFiles(t, s, "tmp", 0)
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	expectNoTmp(t, s)
	expectFiles(t, s, "blobs", 0)
}

// TestSpace refuses a wheel that the file system has no room for before
// anything is written.
func TestSpace(t *testing.T) {
	tests := []struct {
		name, options string
		files         map[string]string
		want          []string
	}{
		{"bytes", "size=4m", map[string]string{"big.bin": strings.Repeat("x", 5<<20)}, []string{"5.3 MB", "4.2 MB free"}},
		{"inodes", "size=64m,nr_inodes=40", manyFiles(100), []string{"102 inodes", "free"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := mountTmpfs(t, test.options)
			s := openStore(t, filepath.Join(dir, "store"))
			i := newIngest(t, s)
			_, err := add(i, makeWheel(t, "big", test.files, nil), AddOptions{})
			if !errors.Is(err, ErrNoSpace) {
				t.Fatalf("error is %v, want %v", err, ErrNoSpace)
			}
			for _, want := range append(test.want, dir) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			expectFiles(t, s, "tmp", 0)
		})
	}
}

func manyFiles(n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("many/f%d.py", i)] = fmt.Sprintf("%d\n", i)
	}
	return files
}

// TestDiskFull fills the file system while a wheel is unpacked and before the
// commit. Either way the error names the file system and nothing is left.
func TestDiskFull(t *testing.T) {
	for _, when := range []string{"unpacking", "commit"} {
		t.Run(when, func(t *testing.T) {
			dir := mountTmpfs(t, "size=32m") // after the filler is gone: room for the catalog
			s := openStore(t, filepath.Join(dir, "store"))
			filler := filepath.Join(dir, "filler")
			var once sync.Once
			fill := func(int64) { once.Do(func() { fillUp(t, filler) }) }

			i := newIngest(t, s)
			o := AddOptions{}
			if when == "unpacking" {
				o.Progress = fill
			}
			w := makeWheel(t, "many", manyFiles(100), nil)
			_, err := add(i, w, o)
			if when == "commit" {
				if err != nil {
					t.Fatal(err)
				}
				fill(0)
				err = i.Commit()
			}
			if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), dir) {
				t.Fatalf("error is %v, want %v and the file system's name", err, ErrNoSpace)
			}
			if err := i.Close(); err != nil {
				t.Error(err)
			}
			expectNoTmp(t, s)
			expectFiles(t, s, "wheels", 0)
			expectFiles(t, s, "blobs", 0)
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			ingest(t, s, w)
			expectWheel(t, s, w)
		})
	}
}

// fillUp writes a file until the file system is full.
func fillUp(t *testing.T, path string) {
	f, err := os.Create(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Error(err)
	}
}

// TestConcurrentAdd adds many wheels at once, each twice.
func TestConcurrentAdd(t *testing.T) {
	for _, roundFiles := range []int{roundFiles, 1} { // one round at the end, and as many as can be
		t.Run(fmt.Sprint(roundFiles), func(t *testing.T) { testConcurrentAdd(t, roundFiles) })
	}
}

func testConcurrentAdd(t *testing.T, roundFiles int) {
	s := newStore(t)
	s.roundFiles = roundFiles
	i := newIngest(t, s)
	var wheels []testWheel
	for n := range 20 {
		name := fmt.Sprintf("pkg%d", n)
		files := manyFiles(10)
		files[name+".py"] = name
		wheels = append(wheels, makeWheel(t, name, files, nil))
	}
	var wg sync.WaitGroup
	for _, w := range append(wheels, wheels...) {
		wg.Go(func() {
			if _, err := add(i, w, AddOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := i.Commit(); err != nil {
		t.Fatal(err)
	}
	for _, w := range wheels {
		expectWheel(t, s, w)
	}
	expectFiles(t, s, "wheels", len(wheels))
	expectNoTmp(t, s)
}

// TestGivenUpRound shows that an ingest that was given up behind a round leaves
// no wheel, and that its blobs are as good as any to the next.
func TestGivenUpRound(t *testing.T) {
	s := newStore(t)
	s.roundFiles = 1
	w := demoWheel(t)
	i := newIngest(t, s)
	if _, err := add(i, w, AddOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	if s.HasWheel(w.digest()) {
		t.Error("the wheel is there without Commit")
	}
	expectNoTmp(t, s)
	ingest(t, s, w)
	expectWheel(t, s, w)
}

// TestFailedRound shows that Commit fails when a round did, and makes no wheel.
func TestFailedRound(t *testing.T) {
	s := newStore(t)
	s.roundFiles = 1
	// Nothing can be named in this folder, nor can the folder be made.
	if err := os.Symlink("nowhere", s.path("blobs", "aa")); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for n := range 2000 { // some digest starts with aa
		files[fmt.Sprintf("p/%d.py", n)] = fmt.Sprint(n)
	}
	w := makeWheel(t, "many", files, nil)
	i := newIngest(t, s)
	if _, err := add(i, w, AddOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := i.Commit(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("commit: %v, want %v", err, fs.ErrNotExist)
	}
	if s.HasWheel(w.digest()) {
		t.Error("the wheel is there though a blob of it is not")
	}
	expectNoTmp(t, s)
}

// TestUnpackLimit: the limit is held, and where it is given it stands for the
// bound on the ratio too.
func TestUnpackLimit(t *testing.T) {
	i := newIngest(t, newStore(t))
	if _, err := add(i, demoWheel(t), AddOptions{UnpackLimit: 1}); err == nil || !strings.Contains(err.Error(), "--unpack-limit") {
		t.Errorf("error is %v, want one that names --unpack-limit", err)
	}
	zeros := makeWheel(t, "zeros", map[string]string{"zeros.bin": strings.Repeat("\x00", 65<<20)}, nil)
	if _, err := add(i, zeros, AddOptions{}); err == nil || !strings.Contains(err.Error(), "times its size") {
		t.Errorf("error is %v, want one about the ratio", err)
	}
	if _, err := add(i, zeros, AddOptions{UnpackLimit: 100 << 20}); err != nil {
		t.Error(err)
	}
}
