package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxRedirects is that of Go's client and of browsers, about.
const maxRedirects = 10

// A client sends requests with what the environment says about proxies,
// certificates and credentials.
type client struct {
	http      *http.Client
	userAgent string
	roots     roots
	netrc     *netrc
}

func newClient(getenv func(string) string, userAgent string) (*client, error) {
	proxy, err := proxyFunc(getenv)
	if err != nil {
		return nil, err
	}
	r, err := findRoots(getenv)
	if err != nil {
		return nil, err
	}
	c := &client{userAgent: userAgent, roots: r, netrc: readNetrc(getenv)}
	transport := &http.Transport{
		Proxy:                  proxy,
		OnProxyConnectResponse: refusedByProxy,
		DialContext:            (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: r.pool},
		MaxIdleConnsPerHost:    defaultParallel,
		IdleConnTimeout:        30 * time.Second,
		DisableCompression:     true,
		// One connection per download: on a shared HTTP/2 connection one lost
		// packet holds up every file.
		Protocols: new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(true)
	c.http = &http.Client{Transport: transport, CheckRedirect: c.redirect}
	return c, nil
}

// do sends req, follows redirects, and returns errors that name no credential.
func (c *client) do(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", c.userAgent)
	c.authorize(req, true)
	resp, err := c.http.Do(req)
	if err == nil {
		return resp, nil
	}
	// The url.Error repeats the URL, in which a token may be.
	var ue *url.Error
	for errors.As(err, &ue) {
		err = ue.Err
	}
	if badCertificate(err) {
		return nil, fmt.Errorf("asking %s: %w; trusted are the certificates of %s; if the server has one of your own organisation, SSL_CERT_FILE may name the bundle", req.URL.Host, err, c.roots.from)
	}
	if unknownHost(err) {
		return nil, fmt.Errorf("%w: asking %s: %w; see that the name is right and that this machine is online (it may need a proxy), then run the same again", ErrGaveUp, req.URL.Host, err)
	}
	return nil, fmt.Errorf("asking %s: %w", req.URL.Host, err)
}

// unknownHost reports whether a server, or the proxy before it, has a name that
// nobody knows.
func unknownHost(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

// redirect is called before each redirect is followed.
func (c *client) redirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return finalError{fmt.Errorf("more than %d redirects", maxRedirects)}
	}
	last := via[len(via)-1].URL
	switch {
	case req.URL.Scheme != "https" && req.URL.Scheme != "http":
		return finalError{fmt.Errorf("a redirect to %s, which is neither https nor http", redactURL(req.URL))}
	case last.Scheme == "https" && req.URL.Scheme == "http":
		return finalError{fmt.Errorf("a redirect from https to %s, which anybody on the way can read and change, is not followed", redactURL(req.URL))}
	}
	// Go's client forwards the header to subdomains and other ports too.
	req.Header.Del("Authorization")
	first := via[0]
	if sameOrigin(first.URL, req.URL) {
		if a := first.Header.Get("Authorization"); a != "" {
			req.Header.Set("Authorization", a)
		}
		return nil
	}
	c.authorize(req, false)
	return nil
}

// authorize sets the credentials for the request's own host: those of the URL,
// else those of netrc. The default entry of netrc is for hosts that the lock
// file names only: a store of signed URLs, where redirects lead, refuses it.
func (c *client) authorize(req *http.Request, named bool) {
	if u := req.URL.User; u != nil {
		password, _ := u.Password()
		req.SetBasicAuth(u.Username(), password)
		return
	}
	if login, password, ok := c.netrc.find(req.URL.Hostname(), named); ok {
		req.SetBasicAuth(login, password)
	}
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// refusedByProxy makes an answer like 407 final: Go's client gives it without
// its code.
func refusedByProxy(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code == http.StatusOK, temporaryStatus(code):
		return nil
	case code == http.StatusProxyAuthRequired:
		return finalError{fmt.Errorf("the proxy %s answers %s; put user and password into its URL", redactURL(proxy), resp.Status)}
	default:
		return finalError{fmt.Errorf("the proxy %s answers %s", redactURL(proxy), resp.Status)}
	}
}

// redactURL returns u without what may be secret: user, password, and the
// query, which signed URLs use.
func redactURL(u *url.URL) string {
	clean := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath, Opaque: u.Opaque}
	return clean.String()
}

func redact(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "(not a URL)"
	}
	return redactURL(u)
}
