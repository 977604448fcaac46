package fetch

import (
	"context"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeNetrc puts a netrc file into the rig's home directory.
func (r *rig) writeNetrc(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.env["HOME"], ".netrc"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func basic(user, password string) string {
	req := &http.Request{Header: make(http.Header)}
	req.SetBasicAuth(user, password)
	return req.Header.Get("Authorization")
}

func redirectTo(location string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, location, http.StatusFound)
	}
}

// Credentials go to the host they are for, and to no other. Both servers are
// at 127.0.0.1, so "another host" is another name for it or another port.
func TestCredentials(t *testing.T) {
	data := content(100)
	other := func(u string) string { return strings.Replace(u, "127.0.0.1", "localhost", 1) }
	in := func(u string) string { return strings.Replace(u, "//", "//ann:secret@", 1) }
	const netrcBoth = "machine 127.0.0.1 login ann password secret\nmachine localhost login bob password hidden\n"
	const netrcDefault = "default login ann password secret\n"
	ann, bob := basic("ann", "secret"), basic("bob", "hidden")

	tests := []struct {
		name   string
		url    func(first string) string
		target func(first, second string) string // of a redirect, "" for none
		netrc  string
		first  []string
		second []string
	}{
		{name: "in the URL", url: in, first: []string{ann}},
		{name: "the URL's beat netrc's", url: in, netrc: "machine 127.0.0.1 login x password y", first: []string{ann}},
		{name: "netrc", netrc: netrcBoth, first: []string{ann}},
		{name: "netrc default", netrc: netrcDefault, first: []string{ann}},
		{name: "netrc of another host", netrc: "machine localhost login bob password hidden", first: []string{""}},
		{name: "redirect to the same host", url: in, target: func(first, _ string) string { return first + "/again" }, first: []string{ann, ann}},
		{name: "redirect by path", url: in, target: func(_, _ string) string { return "/again" }, first: []string{ann, ann}},
		{name: "redirect to another port", url: in, target: func(_, second string) string { return second }, first: []string{ann}, second: []string{""}},
		{name: "redirect to another host", url: in, target: func(_, second string) string { return other(second) }, first: []string{ann}, second: []string{""}},
		{name: "redirect to a host of netrc", netrc: netrcBoth, target: func(_, second string) string { return other(second) }, first: []string{ann}, second: []string{bob}},
		{name: "netrc default is not for redirects", netrc: netrcDefault, target: func(_, second string) string { return other(second) }, first: []string{ann}, second: []string{""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			first, second := newServer(t, data), newServer(t, data)
			if tt.target != nil {
				first.faults = times(1, redirectTo(tt.target(first.URL, second.URL)))
			}
			r := newRig(t)
			r.writeNetrc(t, tt.netrc)
			u := first.URL
			if tt.url != nil {
				u = tt.url(u)
			}
			r.mustGet(t, pinOf(u+"/x.whl", data), data)
			first.wantRequests(t, "Authorization", tt.first...)
			second.wantRequests(t, "Authorization", tt.second...)
		})
	}
}

// A redirect back to the first host gets its credentials again; one to a
// subdomain, to which Go's client would forward them, doesn't.
func TestRedirectHeaders(t *testing.T) {
	c := &client{netrc: new(netrc)}
	request := func(u string) *http.Request {
		req, err := http.NewRequest(http.MethodGet, u, nil)
		if err != nil {
			t.Fatal(err)
		}
		return req
	}
	first := request("https://example.com/x")
	first.Header.Set("Authorization", "of the first")
	tests := []struct{ to, want string }{
		{"https://example.com/y", "of the first"},
		{"https://EXAMPLE.com:443/y", "of the first"},
		{"https://sub.example.com/y", ""},
		{"https://example.com:8443/y", ""},
		{"https://example.org/y", ""},
	}
	for _, tt := range tests {
		req := request(tt.to)
		req.Header.Set("Authorization", "forwarded")
		if err := c.redirect(req, []*http.Request{first}); err != nil {
			t.Errorf("to %s: %v", tt.to, err)
		}
		if got := req.Header.Get("Authorization"); got != tt.want {
			t.Errorf("to %s: Authorization %q, want %q", tt.to, got, tt.want)
		}
	}
}

func TestRefusedRedirects(t *testing.T) {
	data := content(100)
	plain := newServer(t, data)
	tests := []struct{ name, location, want string }{
		{"to http", plain.URL + "/x.whl?token=secret", "a redirect from https to " + plain.URL + "/x.whl, which"},
		{"to a file", "file:///etc/passwd", "a redirect to file:///etc/passwd, which is neither"},
		{"in a circle", "/x.whl", "more than 10 redirects"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newTLSServer(t, redirectTo(tt.location))
			r := newRig(t, "SSL_CERT_FILE", certFile(t, s))
			_, err := r.get(pinOf(s.URL+"/x.whl", data))
			wantError(t, err, tt.want)
			if r.waits != nil {
				t.Errorf("tried again after %s", r.waits)
			}
		})
	}
	plain.wantRequests(t, "Range")
}

// newTLSServer is one that doesn't log what clients think of its certificate.
func newTLSServer(t *testing.T, h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func certFile(t *testing.T, s *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A server whose certificate only one bundle knows is reached by whatever
// names that bundle.
func TestCertificates(t *testing.T) {
	data := content(100)
	s := newServer(t, data)
	tls := newTLSServer(t, s)
	file := certFile(t, tls)
	dir := filepath.Dir(file)
	if err := os.Symlink("absent", filepath.Join(dir, "dangling.0")); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "pip.conf")
	if err := os.WriteFile(conf, []byte("[global]\ncert = "+file+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	junk := filepath.Join(t.TempDir(), "junk.pem")
	if err := os.WriteFile(junk, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		env  []string
		want string
	}{
		{"SSL_CERT_FILE", []string{"SSL_CERT_FILE", file}, ""},
		{"SSL_CERT_DIR", []string{"SSL_CERT_DIR", t.TempDir() + string(filepath.ListSeparator) + dir}, ""},
		{"REQUESTS_CA_BUNDLE", []string{"REQUESTS_CA_BUNDLE", file}, ""},
		{"REQUESTS_CA_BUNDLE is a directory", []string{"REQUESTS_CA_BUNDLE", dir}, ""},
		{"CURL_CA_BUNDLE", []string{"CURL_CA_BUNDLE", file}, ""},
		{"PIP_CERT", []string{"PIP_CERT", file}, ""},
		{"PIP_CERT beats cert", []string{"PIP_CONFIG_FILE", conf, "PIP_CERT", junk}, `(PIP_CERT): there is no certificate in it`},
		{"pip's cert", []string{"PIP_CONFIG_FILE", conf}, ""},
		{"two bundles", []string{"SSL_CERT_FILE", file, "REQUESTS_CA_BUNDLE", certFile(t, tls)}, ""},
		{"none", nil, "trusted are the certificates of the system; if the server"},
		{"another", []string{"SSL_CERT_DIR", t.TempDir()}, `(SSL_CERT_DIR); if the server`},
		{"absent", []string{"REQUESTS_CA_BUNDLE", "/nonexistent.pem"}, `trusted certificates: "/nonexistent.pem" (REQUESTS_CA_BUNDLE): open`},
		{"absent directory", []string{"SSL_CERT_DIR", "/nonexistent"}, `trusted certificates: "/nonexistent" (SSL_CERT_DIR): open`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.env...)
			pin := pinOf(tls.URL, data)
			if tt.want == "" {
				r.mustGet(t, pin, data)
				return
			}
			_, err := r.get(pin)
			wantError(t, err, tt.want)
			if r.waits != nil {
				t.Errorf("tried again after %s", r.waits)
			}
		})
	}
}

// A proxy answers CONNECT for any host by a tunnel to one address, and writes
// down what it was asked.
type proxy struct {
	*server
	to    string
	asked []string
}

func newProxy(t *testing.T, data []byte, to string) *proxy {
	p := &proxy{server: newServer(t, data), to: to}
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

func (p *proxy) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host+" "+r.Header.Get("Proxy-Authorization"))
	p.mu.Unlock()
	if r.Method != http.MethodConnect {
		p.whole(w, r)
		return
	}
	there, err := net.Dial("tcp", p.to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	here, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		there.Close()
		return
	}
	io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
	tunnel(here, buffered, there)
}

// tunnel copies both ways until both ends are closed; what a sends is read from
// fromA.
func tunnel(a net.Conn, fromA io.Reader, b net.Conn) {
	go func() {
		io.Copy(a, b)
		a.Close()
	}()
	io.Copy(b, fromA)
	b.Close()
}

func (p *proxy) url(user string) string { return strings.Replace(p.URL, "//", "//"+user, 1) }

func TestProxy(t *testing.T) {
	data := content(100)
	s := newServer(t, data)
	tls := newTLSServer(t, s)
	ca := certFile(t, tls)
	to := tls.Listener.Addr().String()
	socks := newSocks(t, s.Listener.Addr().String())

	tests := []struct {
		name  string
		env   func(p *proxy) []string
		url   string
		asked string // what the proxy is asked; "" for nothing
		err   string
	}{
		{"http", func(p *proxy) []string { return []string{"HTTP_PROXY", p.URL} },
			"http://wheels.example.com/x.whl", "GET wheels.example.com ", ""},
		{"without a scheme", func(p *proxy) []string { return []string{"http_proxy", p.Listener.Addr().String()} },
			"http://wheels.example.com/x.whl", "GET wheels.example.com ", ""},
		{"https", func(p *proxy) []string { return []string{"HTTPS_PROXY", p.URL} },
			"https://example.com/x.whl", "CONNECT example.com:443 ", ""},
		{"all", func(p *proxy) []string { return []string{"ALL_PROXY", p.URL} },
			"https://example.com/x.whl", "CONNECT example.com:443 ", ""},
		{"lower case first", func(p *proxy) []string {
			return []string{"https_proxy", p.URL, "HTTPS_PROXY", "http://127.0.0.1:1"}
		}, "https://example.com/x.whl", "CONNECT example.com:443 ", ""},
		{"its own beats all", func(p *proxy) []string {
			return []string{"HTTPS_PROXY", p.URL, "ALL_PROXY", "http://127.0.0.1:1"}
		}, "https://example.com/x.whl", "CONNECT example.com:443 ", ""},
		{"password", func(p *proxy) []string { return []string{"ALL_PROXY", p.url("ann:secret@")} },
			"https://example.com/x.whl", "CONNECT example.com:443 " + basic("ann", "secret"), ""},
		{"excepted", func(p *proxy) []string { return []string{"ALL_PROXY", p.URL, "NO_PROXY", "example.org, 127.0.0.0/8"} },
			s.URL, "", ""},
		{"all excepted", func(p *proxy) []string { return []string{"ALL_PROXY", p.URL, "no_proxy", "*"} },
			s.URL, "", ""},
		{"socks5", func(p *proxy) []string { return []string{"ALL_PROXY", "socks5h://" + socks} },
			"http://wheels.example.com/x.whl", "", ""},
		{"socks4", func(p *proxy) []string { return []string{"ALL_PROXY", "socks4://ann:secret@" + socks} },
			s.URL, "", `names the proxy "socks4://` + socks + `"; http, https, socks5`},
		{"nonsense", func(p *proxy) []string { return []string{"ALL_PROXY", "http://ann:secret@exa mple:x"} },
			s.URL, "", "the variable ALL_PROXY is not the URL of a proxy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newProxy(t, data, to)
			r := newRig(t, append(tt.env(p), "SSL_CERT_FILE", ca)...)
			pin := pinOf(tt.url, data)
			if tt.err != "" {
				_, err := r.get(pin)
				wantError(t, err, tt.err)
				return
			}
			r.mustGet(t, pin, data)
			if got := strings.Join(p.asked, "; "); got != tt.asked {
				t.Errorf("the proxy was asked %q, want %q", got, tt.asked)
			}
		})
	}
}

func TestProxyRefuses(t *testing.T) {
	data := content(100)
	tests := []struct {
		name string
		code int
		url  string
		want string
	}{
		{"password over a tunnel", 407, "https://example.com/x.whl", "answers 407 Proxy Authentication Required; put user and password into its URL"},
		{"forbidden over a tunnel", 403, "https://example.com/x.whl", "answers 403 Forbidden"},
		{"password", 407, "http://example.com/x.whl", "answers 407 Proxy Authentication Required"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(status(tt.code))
			t.Cleanup(s.Close)
			r := newRig(t, "ALL_PROXY", strings.Replace(s.URL, "//", "//ann:secret@", 1))
			_, err := r.get(pinOf(tt.url, data))
			wantError(t, err, tt.want)
			if r.waits != nil {
				t.Errorf("tried again after %s", r.waits)
			}
		})
	}
}

// newSocks returns the address of a SOCKS5 server (RFC 1928) that connects to
// one address whatever it is asked.
func newSocks(t *testing.T, to string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go socks(c, to)
		}
	}()
	return l.Addr().String()
}

func socks(c net.Conn, to string) {
	defer c.Close()
	read := func(n int) []byte {
		b := make([]byte, n)
		io.ReadFull(c, b)
		return b
	}
	read(int(read(2)[1])) // the client's methods
	c.Write([]byte{5, 0})
	if h := read(5); h[3] != 3 { // a name is asked for, not an address
		return
	} else {
		read(int(h[4]) + binary.Size(uint16(0)))
	}
	there, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	tunnel(c, c, there)
}

func TestNoProxy(t *testing.T) {
	tests := []struct {
		list, url string
		direct    bool
	}{
		{"example.com", "https://example.com/", true},
		{"example.com", "https://EXAMPLE.com./", true},
		{"example.com", "https://sub.example.com/", true},
		{"example.com", "https://notexample.com/", false},
		{".example.com", "https://sub.example.com/", true},
		{"*.example.com", "https://sub.example.com/", true},
		{"example.com:8080", "https://example.com:8080/", true},
		{"example.com:8080", "https://example.com/", false},
		{"example.com:443", "https://example.com/", true},
		{"10.0.0.0/8", "http://10.1.2.3/", true},
		{"10.0.0.0/8", "http://11.1.2.3/", false},
		{"10.1.2.3", "http://10.1.2.3:80/", true},
		{"::1", "http://[::1]:8080/", true},
		{"[::1]:8080", "http://[::1]:8080/", true},
		{"fe80::/10", "http://[fe80::1]/", true},
		{" , example.org ,example.com", "https://example.com/", true},
		{"*", "https://example.com/", true},
		{"", "https://example.com/", false},
		{"localhost", "http://127.0.0.1/", false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %s", tt.list, tt.url), func(t *testing.T) {
			env := map[string]string{"all_proxy": "http://127.0.0.1:1", "no_proxy": tt.list}
			choose, err := proxyFunc(func(name string) string { return env[name] })
			if err != nil {
				t.Fatal(err)
			}
			u, err := url.Parse(tt.url)
			if err != nil {
				t.Fatal(err)
			}
			p, err := choose(&http.Request{URL: u})
			if err != nil || (p == nil) != tt.direct {
				t.Errorf("proxy %v, error %v; want direct %v", p, err, tt.direct)
			}
		})
	}
}

// A name that nobody knows is not asked for again, and counts as a server that
// can't be reached.
func TestUnknownHost(t *testing.T) {
	r := newRig(t)
	r.client = func() (*client, error) {
		c, err := newClient(func(name string) string { return r.env[name] }, "test")
		if err == nil {
			c.http.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.DNSError{Err: "no such host", Name: "nowhere.invalid", IsNotFound: true}
			}
		}
		return c, err
	}
	_, err := r.get(pinOf("http://nowhere.invalid/demo.whl", content(10)))
	wantError(t, err, "asking nowhere.invalid: lookup nowhere.invalid: no such host; see that the name is right")
	if !errors.Is(err, ErrGaveUp) || len(r.waits) != 0 {
		t.Errorf("error %v after the waits %s, want %v at once", err, r.waits, ErrGaveUp)
	}
}
