package session

import "testing"

func TestUnit(t *testing.T) {
	environ := []string{"HOME=/home/ada", "SITEFS_STORE=/srv/100% \"ours\"", "PATH=/usr/bin:/bin", "XDG_STATE_HOME="}
	got := unit(`/opt/a $b\c/sitefs`, environ)
	want := `[Unit]
Description=Python environments that sitefs mounts

[Service]
Type=oneshot
RemainAfterExit=yes
Environment="SITEFS_STORE=/srv/100%% \"ours\""
Environment="PATH=/usr/bin:/bin"
ExecStart="/opt/a $$b\\c/sitefs" mount --all

[Install]
WantedBy=default.target
`
	if got != want {
		t.Errorf("the unit is\n%swant\n%s", got, want)
	}
}
