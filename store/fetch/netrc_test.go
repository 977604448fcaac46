package fetch

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"
)

func TestParseNetrc(t *testing.T) {
	tests := []struct {
		name, text, host string
		user, password   string
		ok               bool
	}{
		{"one line", "machine example.com login ann password pw", "example.com", "ann", "pw", true},
		{"lines", "machine example.com\n\tlogin ann\r\n\tpassword pw\n", "example.com", "ann", "pw", true},
		{"case of the host", "machine Example.COM login ann password pw", "EXAMPLE.com", "ann", "pw", true},
		{"another host", "machine example.com login ann password pw", "sub.example.com", "", "", false},
		{"second", "machine a login x password y\nmachine b login ann password pw", "b", "ann", "pw", true},
		{"the last counts", "machine a login x password y\nmachine a login ann password pw", "a", "ann", "pw", true},
		{"default", "machine a login x password y\ndefault login ann password pw", "b", "ann", "pw", true},
		{"machine beats default", "machine a login ann password pw default login x password y", "a", "ann", "pw", true},
		{"account", "machine a login ann account z password pw", "a", "ann", "pw", true},
		{"user", "machine a user ann password pw", "a", "ann", "pw", true},
		{"password only", "machine a password token", "a", "", "token", true},
		{"quotes", `machine a login "an n" password "p\"w"`, "a", "an n", `p"w`, true},
		{"backslash", `machine a login ann password p\ w`, "a", "ann", "p w", true},
		{"hash in a password", "machine a login ann password #pw", "a", "ann", "#pw", true},
		{"comment", "# machine a login x\nmachine a login ann password pw", "a", "ann", "pw", true},
		{"comment at the end", "machine a login ann # login x\npassword pw", "a", "ann", "pw", true},
		{"macro", "machine a login ann password pw\nmacdef init\nmachine b login x password y\n\nmachine c login eve password pw2", "c", "eve", "pw2", true},
		{"inside a macro", "macdef init\nmachine b login x password y\n\nmachine c login z password z", "b", "", "", false},
		{"unknown words", "machine a protocol https login ann password pw", "a", "ann", "pw", true},
		{"cut short", "machine", "a", "", "", false},
		{"words before", "login x password y machine a login ann password pw", "a", "ann", "pw", true},
		{"empty", "", "a", "", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			user, password, ok := parseNetrc(tt.text).find(tt.host, true)
			if user != tt.user || password != tt.password || ok != tt.ok {
				t.Errorf("got %q %q %v, want %q %q %v", user, password, ok, tt.user, tt.password, tt.ok)
			}
		})
	}
}

func TestReadNetrc(t *testing.T) {
	home := t.TempDir()
	env := map[string]string{"HOME": home}
	getenv := func(name string) string { return env[name] }
	write := func(path, user string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("machine a login "+user+" password p"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := func(want string) {
		t.Helper()
		if user, _, _ := readNetrc(getenv).find("a", false); user != want {
			t.Errorf("user %q, want %q", user, want)
		}
	}
	want("")
	write(filepath.Join(home, "_netrc"), "underscore")
	want("underscore")
	write(filepath.Join(home, ".netrc"), "dot")
	want("dot")
	env["NETRC"] = filepath.Join(home, "named")
	want("")
	write(env["NETRC"], "named")
	want("named")

	env["NETRC"] = home // a directory can't be read
	n := readNetrc(getenv)
	if hint := n.hint(&url.URL{Host: "a"}); n.err == nil || hint != "credentials were not looked up: "+n.err.Error() {
		t.Errorf("hint %q, error %v", hint, n.err)
	}
}
