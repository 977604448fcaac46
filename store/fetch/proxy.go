package fetch

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// proxyFunc returns the choice of a proxy as pip, uv and curl make it from
// http_proxy, https_proxy, all_proxy and no_proxy, lower case before upper.
//
// net/http's own has no ALL_PROXY, reads the environment once per process, and
// exempts loopback addresses, which those tools don't.
func proxyFunc(getenv func(string) string) (func(*http.Request) (*url.URL, error), error) {
	chosen := make(map[string]*url.URL)
	for _, scheme := range []string{"http", "https"} {
		u, err := findProxy(getenv, scheme+"_proxy", "all_proxy")
		if err != nil {
			return nil, err
		}
		chosen[scheme] = u
	}
	_, none := lookup(getenv, "no_proxy")
	exceptions := parseExceptions(none)
	return func(req *http.Request) (*url.URL, error) {
		for _, e := range exceptions {
			if e.match(req.URL) {
				return nil, nil
			}
		}
		return chosen[req.URL.Scheme], nil
	}, nil
}

// lookup returns a variable that may be written in either case.
func lookup(getenv func(string) string, name string) (spelled, value string) {
	for _, n := range []string{name, strings.ToUpper(name)} {
		if v := strings.TrimSpace(getenv(n)); v != "" {
			return n, v
		}
	}
	return "", ""
}

func findProxy(getenv func(string) string, names ...string) (*url.URL, error) {
	for _, name := range names {
		name, value := lookup(getenv, name)
		if value == "" {
			continue
		}
		if !strings.Contains(value, "://") {
			value = "http://" + value
		}
		u, err := url.Parse(value)
		if err != nil || u.Hostname() == "" {
			// Without the value: a password may be in it.
			return nil, fmt.Errorf("the variable %s is not the URL of a proxy; wanted http://HOST:PORT", name)
		}
		switch u.Scheme {
		case "http", "https", "socks5", "socks5h":
			return u, nil
		}
		return nil, fmt.Errorf("the variable %s names the proxy %q; http, https, socks5 and socks5h can be used", name, redactURL(u))
	}
	return nil, nil
}

// An exception is one entry of no_proxy.
type exception struct {
	all    bool
	subnet netip.Prefix
	host   string // this name and those below it
	port   string // "" is any
}

func parseExceptions(list string) []exception {
	var es []exception
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.ToLower(strings.TrimSpace(entry))
		if entry == "" {
			continue
		}
		if entry == "*" {
			es = append(es, exception{all: true})
			continue
		}
		if subnet, err := netip.ParsePrefix(entry); err == nil {
			es = append(es, exception{subnet: subnet})
			continue
		}
		var e exception
		if host, port, err := net.SplitHostPort(entry); err == nil {
			entry, e.port = host, port
		}
		entry = strings.TrimPrefix(entry, "*")
		e.host = strings.Trim(strings.Trim(entry, "[]"), ".")
		es = append(es, e)
	}
	return es
}

func (e exception) match(u *url.URL) bool {
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	switch {
	case e.all:
		return true
	case e.subnet.IsValid():
		ip, err := netip.ParseAddr(host)
		return err == nil && e.subnet.Contains(ip)
	case cmp.Or(e.port, port(u)) != port(u):
		return false
	default:
		return host == e.host || strings.HasSuffix(host, "."+e.host)
	}
}
