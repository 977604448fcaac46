package resolve

import (
	"os"
	"strings"

	"github.com/sitefs/sitefs/manifest/lock"
)

// authorize gives the pins' URLs the user names and passwords that the user's
// configuration and requirements have for the same scheme and host. The
// resolvers use them and leave them out of their answers, and so does the
// cache: they are put back for the download alone.
func (r *Resolver) authorize(pins []lock.Pin, req Request) {
	logins := map[string]string{}
	for _, path := range r.configFiles(req) {
		if data, err := os.ReadFile(path); err == nil { // what can't be read, the resolver hasn't read
			findLogins(string(data), logins)
		}
	}
	for _, v := range r.variables() {
		findLogins(v, logins)
	}
	for _, requirement := range req.requirements() {
		findLogins(requirement, logins)
	}
	for i := range pins {
		scheme, rest, ok := strings.Cut(pins[i].URL, "://")
		if !ok {
			continue
		}
		host, _, _ := strings.Cut(rest, "/")
		if login, ok := logins[scheme+"://"+host]; ok {
			pins[i].URL = scheme + "://" + login + "@" + rest
		}
	}
}

// findLogins adds to logins, by scheme and host, what stands before the "@" of
// the URLs in text. Variables in its place (${TOKEN}) are for the resolver.
func findLogins(text string, logins map[string]string) {
	for {
		before, rest, ok := strings.Cut(text, "://")
		if !ok {
			return
		}
		end := strings.IndexAny(rest, "/?# \t\r\n\"',")
		if end < 0 {
			end = len(rest)
		}
		authority := rest[:end]
		text = rest[end:]
		at := strings.LastIndexByte(authority, '@')
		if at < 0 || strings.Contains(authority, "${") {
			continue
		}
		for _, scheme := range []string{"https", "http"} {
			if strings.HasSuffix(before, scheme) {
				logins[scheme+"://"+authority[at+1:]] = authority[:at]
				break
			}
		}
	}
}
