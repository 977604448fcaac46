package digest

import (
	"strings"
	"testing"
)

// empty is SHA-256 of no bytes, in both text forms, as sha256sum and RECORD files give it.
const (
	emptyHex    = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	emptyRecord = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
)

func TestForms(t *testing.T) {
	d := Of(nil)
	if got := d.String(); got != emptyHex {
		t.Errorf("String() = %s, want %s", got, emptyHex)
	}
	if got := d.Record(); got != emptyRecord {
		t.Errorf("Record() = %s, want %s", got, emptyRecord)
	}
	if d.IsZero() || !(Digest{}).IsZero() {
		t.Error("IsZero is true of the zero Digest alone")
	}
}

func TestParse(t *testing.T) {
	tests := []struct {
		in string
		ok bool
	}{
		{emptyHex, true},
		{strings.ToUpper(emptyHex), true},
		{emptyHex[1:], false},
		{emptyHex + "0", false},
		{"g" + emptyHex[1:], false},
		{"", false},
	}
	for _, tt := range tests {
		d, err := Parse(tt.in)
		if (err == nil) != tt.ok || tt.ok && d != Of(nil) {
			t.Errorf("Parse(%q) = %v, %v; want ok %v", tt.in, d, err, tt.ok)
		}
	}
}

func TestText(t *testing.T) {
	b, err := Of(nil).MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var d Digest
	if err := d.UnmarshalText(b); err != nil || d != Of(nil) {
		t.Errorf("UnmarshalText(%s) = %v, %v", b, d, err)
	}
	if err := d.UnmarshalText([]byte("short")); err == nil {
		t.Error("UnmarshalText of a short text succeeded")
	}
}
