// Package materialize makes environments and has programs live in them.
package materialize

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// bin holds the program, python is the interpreter to use.
var bin, python string

func TestMain(m *testing.M) { sandbox.Main(m, &bin, &python) }

var rounds = flag.Int("rounds", 4, "how often an environment is deleted and made again")

// app is an application that needs every module of a package, as the one of uv
// issue 15084 did, and answers with a number.
const app = `
import importlib, pkgutil
import click, h11
for module in pkgutil.iter_modules(h11.__path__):
    importlib.import_module("h11." + module.name)

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d"})
`

// TestReloadLoop is what the reporter of uv issue 15084 does all day: delete the
// environment, make it again, and start a server in it at once that imports it anew
// when a source changes.
func TestReloadLoop(t *testing.T) {
	sandbox.NeedSitefs(t)
	h := sandbox.NewHome(t, bin, python)
	h.Setenv("PYTHONDONTWRITEBYTECODE", "1") // an app.py of the same size and second would be taken for the old one
	lock, err := wheelhouse.PylockPath(uvicorn(t), wheelhouse.Dir())
	if err != nil {
		t.Fatal(err)
	}
	h.Write(t, "pylock.toml", string(lock))
	venv := filepath.Join(h.Dir, ".venv")
	var first sandbox.Snapshot
	for round := range *rounds {
		h.Must(t, "rm", "-rf", venv)
		h.Must(t, "sitefs", "materialize", "--quiet", "-r", "pylock.toml", venv)
		serve(t, h, 2*round)
		now, err := sandbox.TakeSnapshot(venv, isMark)
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			first = now
		}
		if diff := now.Differ(first); diff != "" {
			t.Fatalf("round %d: %s", round, diff)
		}
	}
}

// isMark: the mark says when its environment was made.
func isMark(path string) bool { return filepath.Base(path) == ".sitefs-venv" }

// uvicorn returns the wheels of a server.
func uvicorn(t *testing.T) []wheelhouse.Wheel {
	t.Helper()
	list, err := wheelhouse.ReadList("../testdata/bench.txt")
	if err != nil {
		t.Fatal(err)
	}
	needed := []string{"click", "h11", "typing_extensions", "uvicorn"}
	list = slices.DeleteFunc(list, func(w wheelhouse.Wheel) bool { return !slices.Contains(needed, w.Name()) })
	if len(list) != len(needed) {
		t.Fatalf("the list has %v, want %q", list, needed)
	}
	if missing := wheelhouse.Missing(list); len(missing) > 0 {
		t.Skipf("needs %s in %s: run go run ./integration/wheelhouse/fetch integration/testdata/bench.txt", missing[0].Filename, wheelhouse.Dir())
	}
	return list
}

// serve starts the server and has it reload: it answers with number, then with the
// next one.
func serve(t *testing.T, h *sandbox.Home, number int) {
	t.Helper()
	h.Write(t, "app/app.py", fmt.Sprintf(app, number))
	socket := filepath.Join(h.Dir, "socket")
	server := h.Start(t, h.Dir, filepath.Join(h.Dir, ".venv/bin/uvicorn"), "app:app", "--app-dir", "app", "--reload", "--reload-dir", "app", "--uds", socket)
	expectAnswer(t, socket, number, func() {})
	edit := func() { h.Write(t, "app/app.py", fmt.Sprintf(app, number+1)) }
	edit()
	// The server notes the times of sources a while after it began to answer, and an
	// edit that comes before that stays unseen.
	expectAnswer(t, socket, number+1, edit)
	if err := server.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := server.End(); err != nil {
		t.Errorf("the server: %v", err)
	}
	if said := server.Said.String(); strings.Contains(said, "Error") || strings.Contains(said, "Traceback") {
		t.Errorf("the server said\n%s", said)
	}
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// expectAnswer waits until the server on a socket answers with a number. Each time
// that it answers with another one, otherwise is called.
func expectAnswer(t *testing.T, socket string, number int, otherwise func()) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	sandbox.Eventually(t, func() string {
		response, err := client.Get("http://127.0.0.1/")
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return err.Error()
		}
		if got := string(body); got != fmt.Sprint(number) {
			otherwise()
			return fmt.Sprintf("the server answers %q, want %d", got, number)
		}
		return ""
	})
}
