package upper

import (
	"path"
	"strings"
	"testing"
)

func TestDecodeRecord(t *testing.T) {
	for _, test := range []struct {
		name, json string
		of         string // the name it lies under; "": n
		want       string // what the error says; "": none
	}{
		{"lower", `{"name":"n","lower":"a/b"}`, "", ""},
		{"whiteout", `{"name":"n","whiteout":true}`, "", ""},
		{"both", `{"name":"n","whiteout":true,"lower":"n"}`, "", ""},
		{"bytes", `{"name":{"base64":"/w=="},"lower":"a"}`, "\xff", ""},
		{"garbage", "\x00\x01", "", "invalid"},
		{"empty", "", "", "EOF"},
		{"two", `{"name":"n","lower":"a"}{}`, "", "follows"},
		{"unknown field", `{"name":"n","lower":"a","more":1}`, "", "unknown field"},
		{"says nothing", `{"name":"n"}`, "", "neither"},
		{"of another name", `{"name":"m","lower":"a"}`, "", "is called"},
		{"no name", `{"lower":"a"}`, "", "not the name"},
		{"name ..", `{"name":"..","lower":"a"}`, "..", "not the name"},
		{"name .", `{"name":".","lower":"a"}`, ".", "not the name"},
		{"name with a slash", `{"name":"a/b","lower":"a"}`, "a/b", "not the name"},
		{"name with a zero", `{"name":"a\u0000","lower":"a"}`, "a\x00", "not the name"},
		{"long name", `{"name":"` + strings.Repeat("n", 256) + `","lower":"a"}`, strings.Repeat("n", 256), "not the name"},
		{"lower absolute", `{"name":"n","lower":"/etc/passwd"}`, "", "relative"},
		{"lower above", `{"name":"n","lower":"../x"}`, "", "relative"},
		{"lower far above", `{"name":"n","lower":"a/../../x"}`, "", "clean"},
		{"lower the top", `{"name":"n","lower":"."}`, "", "below the top"},
		{"lower unclean", `{"name":"n","lower":"a//b"}`, "", "clean"},
		{"lower with a zero", `{"name":"n","lower":"a\u0000"}`, "", "clean"},
		{"mode", `{"name":"n","lower":"a","mode":32768}`, "", "mode"},
		{"negative mode", `{"name":"n","lower":"a","mode":-1}`, "", "mode"},
		{"nanoseconds", `{"name":"n","lower":"a","mtime":{"sec":1,"nsec":1000000000}}`, "", "nanoseconds"},
		{"negative nanoseconds", `{"name":"n","lower":"a","atime":{"sec":1,"nsec":-1}}`, "", "nanoseconds"},
		{"xattrs", `{"name":"n","lower":"a","xattrs":{"user.a":"%"}}`, "", "base64"},
	} {
		t.Run(test.name, func(t *testing.T) {
			of := test.of
			if of == "" {
				of = "n"
			}
			_, err := decodeRecord(path.Base(RecordPath(".", of)), []byte(test.json))
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestWhiteoutPath(t *testing.T) {
	for _, test := range []struct {
		dir, name, want string
	}{
		{".", "a", ".wh.a"},
		{"d/e", strings.Repeat("n", 251), "d/e/.wh." + strings.Repeat("n", 251)},
		{"d", strings.Repeat("n", 252), ""},
		{"d", ".wh..opq", ""}, // ".wh..wh..opq" says something else
		{".", ".wh.sitefs", ""},
		{"d", ".wh", "d/.wh..wh"},
	} {
		p, long := WhiteoutPath(test.dir, test.name)
		want := test.want
		if want == "" {
			want = RecordPath(test.dir, test.name)
		}
		if p != want || long != (test.want == "") {
			t.Errorf("the whiteout of %q in %q is %q, %v, want %q", test.name, test.dir, p, long, want)
		}
	}
}

func FuzzDecodeStep(f *testing.F) {
	s := Move("a", "b/c").KeepTime()
	f.Add(s.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			s, rest, err := decodeStep(b)
			if err != nil {
				return
			}
			if len(rest) >= len(b) || len(s.from)+len(s.to) > len(b) {
				t.Fatalf("%d bytes became %d", len(b), len(rest))
			}
			b = rest
		}
	})
}
