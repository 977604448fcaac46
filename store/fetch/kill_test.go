package fetch

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/sitefs/sitefs/manifest/lock"
)

// TestMain makes the test binary a downloader when TestKill runs it as one.
func TestMain(m *testing.M) {
	if pin := os.Getenv("SITEFS_FETCH_TEST_PIN"); pin != "" {
		if err := downloadForKill(pin, os.Getenv("SITEFS_FETCH_TEST_DIR")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// reporter prints how many bytes are in the file.
type reporter struct {
	silent
	n int64
}

func (r *reporter) Start(lock.Pin) Task { return r }
func (r *reporter) Add(n int64) {
	r.n += n
	fmt.Println(r.n)
}

func downloadForKill(encoded, dir string) error {
	var pin lock.Pin
	if err := json.Unmarshal([]byte(encoded), &pin); err != nil {
		return err
	}
	f, err := New(Config{Dir: dir})
	if err != nil {
		return err
	}
	return f.Fetch(context.Background(), []lock.Pin{pin}, none,
		func(context.Context, lock.Pin, io.ReaderAt, int64, func(int64)) error { return nil }, new(reporter))
}

// A process killed in the middle of a download loses nothing.
func TestKill(t *testing.T) {
	data := content(1_000_000)
	half := len(data) / 2
	s := newServer(t, data, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(data[:half])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	r := newRig(t)
	pin := pinOf(s.URL, data)
	encoded, err := json.Marshal(pin)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{"SITEFS_FETCH_TEST_PIN=" + string(encoded), "SITEFS_FETCH_TEST_DIR=" + r.dir, "PIP_CONFIG_FILE=" + os.DevNull}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != strconv.Itoa(half) {
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the downloader ended by itself: %v", err)
	}

	r.mustGet(t, pin, data)
	s.wantRequests(t, "Range", "", "bytes=500000-")
	s.wantRequests(t, "If-Range", "", `"one"`)
}
