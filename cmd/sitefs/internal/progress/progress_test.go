package progress

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/sitefs/sitefs/manifest/lock"
	"github.com/sitefs/sitefs/store/fetch"
)

var _ fetch.Progress = (*Display)(nil)

// work is one wheel of a fetch, with a retry and a line from elsewhere.
func work(d *Display, err error) {
	pin := lock.Pin{Name: "demo", Version: "1.0", URL: "http://127.0.0.1/demo", Size: 2e6}
	d.Begin([]lock.Pin{pin})
	t := d.Start(pin)
	t.Phase(fetch.Download, 0, 2e6)
	t.Add(1e6)
	t.Retry(errors.New("connection reset"), 500*time.Millisecond)
	d.Write([]byte("sitefs: warning: something\n"))
	t.Phase(fetch.Download, 1e6, 2e6)
	t.Add(1e6)
	t.Phase(fetch.Store, 0, 0)
	t.Add(5e6)
	t.Done(err)
	d.End(err)
}

func TestPlain(t *testing.T) {
	const began = "sitefs: fetching 1 wheel, 2.0 MB\n"
	const between = "sitefs: demo 1.0: connection reset; trying again in 0.5s\nsitefs: warning: something\n"
	tests := []struct {
		name  string
		quiet bool
		err   error
		want  string
	}{
		{"well", false, nil, began + between + "sitefs: stored 1 wheel in 0.0s, 2.0 MB downloaded\n"},
		{"failed", false, errors.New("no"), began + between},
		{"quiet", true, nil, "sitefs: warning: something\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			d := New(&out, tt.quiet)
			d.now = func() time.Time { return start }
			work(d, tt.err)
			if out.String() != tt.want {
				t.Errorf("got\n%swant\n%s", &out, tt.want)
			}
		})
	}
}
