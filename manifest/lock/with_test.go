package lock

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestParseWith(t *testing.T) {
	tests := []struct {
		arg  string
		want With
		err  string
	}{
		{arg: "numpy", want: With{Requirement: "numpy", Name: "numpy"}},
		{arg: " Foo_Bar[a]>=2; os_name == 'posix' ", want: With{Requirement: "Foo_Bar[a]>=2; os_name == 'posix'", Name: "foo-bar"}},
		{arg: "./dist/foo-1-py3-none-any.whl", want: With{Wheel: "/project/dist/foo-1-py3-none-any.whl", Name: "foo"}},
		{arg: "foo-1-py3-none-any.whl", want: With{Wheel: "/project/foo-1-py3-none-any.whl", Name: "foo"}},
		{arg: "../foo-1-py3-none-any.whl[b, a]", want: With{Wheel: "/foo-1-py3-none-any.whl", Name: "foo", Extras: []string{"a", "b"}}},
		{arg: "/a b/foo-1-py3-none-any.whl", want: With{Wheel: "/a b/foo-1-py3-none-any.whl", Name: "foo"}},
		{arg: "/a @b://c/foo-1-py3-none-any.whl", want: With{Wheel: "/a @b:/c/foo-1-py3-none-any.whl", Name: "foo"}},
		{arg: "foo@https://example.com/foo-1-py3-none-any.whl", want: With{Requirement: "foo@https://example.com/foo-1-py3-none-any.whl", Name: "foo"}},
		{arg: "./dist", want: With{Dir: "/project/dist"}},
		{arg: "dist/", want: With{Dir: "/project/dist"}},
		{arg: ".", want: With{Dir: "/project"}},
		{arg: "dist", want: With{Requirement: "dist", Name: "dist"}},
		{arg: "file:///w%20w/foo-1-py3-none-any.whl", want: With{Wheel: "/w w/foo-1-py3-none-any.whl", Name: "foo"}},
		{arg: "Foo @ file:///w/foo-1-py3-none-any.whl", want: With{Wheel: "/w/foo-1-py3-none-any.whl", Name: "foo"}},
		{arg: "foo[x] @ file:///w/foo-1-py3-none-any.whl", want: With{Wheel: "/w/foo-1-py3-none-any.whl", Name: "foo", Extras: []string{"x"}}},
		{arg: "foo @ https://example.com/foo-1-py3-none-any.whl", want: With{Requirement: "foo @ https://example.com/foo-1-py3-none-any.whl", Name: "foo"}},
		{arg: "https://example.com/Foo-1-py3-none-any.whl#sha256=ab", want: With{Requirement: "Foo @ https://example.com/Foo-1-py3-none-any.whl#sha256=ab", Name: "foo"}},
		{arg: "", err: "names nothing"},
		{arg: "--index-url=x", err: "no requirement"},
		{arg: "foo\n--pre", err: "no requirement"},
		{arg: "foo @ https://u:secret@example.com/foo.whl x", err: "no requirement"},
		{arg: "./foo-1.tar.gz", err: "builds nothing"},
		{arg: "https://u:secret@example.com/foo-1.tar.gz", err: "builds nothing"},
		{arg: "./foo.whl", err: "wheel file name"},
		{arg: "./foo-1-py3-none-any.whl[a b]", err: "--with"},
		{arg: "bar @ file:///w/foo-1-py3-none-any.whl", err: "isn't a wheel of bar"},
		{arg: "foo @ file:///w/foo", err: "isn't a wheel of foo"},
	}
	for _, test := range tests {
		t.Run(test.arg, func(t *testing.T) {
			got, err := ParseWith(test.arg, "/project")
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "secret") {
					t.Fatalf("found %+v, error %v, want one with %q and no password", got, err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := test.want
			if got.Requirement != want.Requirement || got.Name != want.Name || got.Wheel != want.Wheel || got.Dir != want.Dir || !slices.Equal(got.Extras, want.Extras) {
				t.Errorf("found %+v, want %+v", got, want)
			}
		})
	}
}

func TestWithReference(t *testing.T) {
	w := With{Name: "foo", Wheel: "/a b/é/foo-1+x-py3-none-any.whl", Extras: []string{"a", "b"}}
	if got, want := w.Reference(), "foo[a,b] @ file:///a%20b/%C3%A9/foo-1%2Bx-py3-none-any.whl"; got != want {
		t.Errorf("found %q, want %q", got, want)
	}
	if path, ok := FilePath("file:///a%20b/%C3%A9/foo-1%2Bx-py3-none-any.whl"); !ok || path != w.Wheel {
		t.Errorf("found %q, want %q back", path, w.Wheel)
	}
}

func TestChooseWheels(t *testing.T) {
	tests := []struct {
		name   string
		names  []string
		chosen []string
		notes  []string
		err    string
	}{
		{
			"one of each package", []string{"b-1-py3-none-any.whl", "a-1-py3-none-any.whl", "README", "a-1.tar.gz"},
			[]string{"a-1-py3-none-any.whl", "b-1-py3-none-any.whl"}, nil, "",
		},
		{
			"the newest version", []string{"a-1.9-py3-none-any.whl", "a-1.10-py3-none-any.whl", "a-1.2-py3-none-any.whl"},
			[]string{"a-1.10-py3-none-any.whl"}, []string{"of a the wheel of version 1.10 is used, not of 1.9, 1.2"}, "",
		},
		{
			"the newest that fits", []string{"a-2-cp311-cp311-linux_x86_64.whl", "a-1-py3-none-any.whl"},
			[]string{"a-1-py3-none-any.whl"}, []string{"of a the wheel of version 1 is used, not of 2"}, "",
		},
		{
			"the best of one version", []string{"a-1-py3-none-any.whl", "a-1-cp312-cp312-linux_x86_64.whl", "a-1-cp311-cp311-linux_x86_64.whl"},
			[]string{"a-1-cp312-cp312-linux_x86_64.whl"}, nil, "",
		},
		{
			"the highest build", []string{"a-1-2-py3-none-any.whl", "a-1-10-py3-none-any.whl"},
			[]string{"a-1-10-py3-none-any.whl"}, nil, "",
		},
		{"none fits", []string{"a-1-cp311-cp311-linux_x86_64.whl"}, nil, nil, "no wheel of a here fits: found cp311-cp311-linux_x86_64"},
		{
			"none of many fits", []string{"d-1-py2-none-any.whl", "c-1-py2-none-any.whl", "a-1-py2-none-any.whl", "b-1-py2-none-any.whl", "f-1-py2-none-any.whl", "e-1-py2-none-any.whl"},
			nil, nil, "no wheel of a here fits",
		},
		{"not a wheel's name", []string{"a.whl"}, nil, nil, "wheel file name"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			chosen, notes, err := ChooseWheels(test.names, python312(t))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("found %q, error %v, want one with %q", chosen, err, test.err)
				}
				return
			}
			if err != nil || !slices.Equal(chosen, test.chosen) || !slices.Equal(notes, test.notes) {
				t.Errorf("found %q, notes %q, error %v, want %q, notes %q", chosen, notes, err, test.chosen, test.notes)
			}
		})
	}
	_, _, err := ChooseWheels([]string{"a-1-cp311-cp311-linux_x86_64.whl"}, python312(t))
	if !errors.Is(err, ErrNoWheel) {
		t.Errorf("error %v isn't ErrNoWheel", err)
	}
}

func TestRedacted(t *testing.T) {
	for text, want := range map[string]string{
		"https://u:p@example.com/a@b":                "https://example.com/a@b",
		"at https://u@x/ and \"http://a:b@c@y\" end": "at https://x/ and \"http://y\" end",
		"no URL @ all": "no URL @ all",
	} {
		if got := Redacted(text); got != want {
			t.Errorf("Redacted(%q) = %q, want %q", text, got, want)
		}
	}
}
