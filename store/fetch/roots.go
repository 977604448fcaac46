package fetch

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// roots are the certificate authorities that are trusted.
type roots struct {
	pool *x509.CertPool // nil means the system's
	from string         // where they come from, for messages
}

// findRoots trusts every bundle, or directory of certificates, that the
// environment or pip's configuration names. What they name replaces the
// system's, as it does for pip, uv and OpenSSL: whoever names a bundle may mean
// to trust no other. They are taken together because each is there for another
// tool, in whose place sitefs downloads.
func findRoots(getenv func(string) string) (roots, error) {
	cert, from := getenv("PIP_CERT"), "PIP_CERT"
	if cert == "" {
		var file string
		var err error
		if cert, file, err = pipCert(pipConfigFiles(getenv), getenv("HOME")); err != nil {
			return roots{}, err
		}
		from = fmt.Sprintf("cert in %q", file)
	}
	r := roots{pool: x509.NewCertPool()}
	named := []struct {
		from  string
		paths []string
	}{
		{from, []string{cert}},
		{"REQUESTS_CA_BUNDLE", []string{getenv("REQUESTS_CA_BUNDLE")}},
		{"CURL_CA_BUNDLE", []string{getenv("CURL_CA_BUNDLE")}},
		{"SSL_CERT_FILE", []string{getenv("SSL_CERT_FILE")}},
		{"SSL_CERT_DIR", filepath.SplitList(getenv("SSL_CERT_DIR"))},
	}
	var all []string
	for _, n := range named {
		for _, path := range n.paths {
			if path == "" {
				continue
			}
			what := fmt.Sprintf("%q (%s)", path, n.from)
			if err := addCerts(r.pool, path); err != nil {
				return roots{}, fmt.Errorf("trusted certificates: %s: %w", what, err)
			}
			all = append(all, what)
		}
	}
	if all == nil {
		return roots{from: "the system"}, nil
	}
	r.from = strings.Join(all, " and ")
	return r, nil
}

func addCerts(pool *x509.CertPool, path string) error {
	if isDir(path) {
		return addDir(pool, path)
	}
	return addFile(pool, path)
}

func addFile(pool *x509.CertPool, path string) error {
	pem, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !pool.AppendCertsFromPEM(pem) {
		return errors.New("there is no certificate in it; wanted PEM")
	}
	return nil
}

// addDir adds every certificate of a directory, in which other files may be.
func addDir(pool *x509.CertPool, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue // dangling links are usual in hashed directories
		}
		pem, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		pool.AppendCertsFromPEM(pem)
	}
	return nil
}

// badCertificate reports whether err says that a server's certificate isn't
// trusted or isn't the server's.
func badCertificate(err error) bool {
	var failed *tls.CertificateVerificationError
	return errors.As(err, &failed)
}
