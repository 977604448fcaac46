package lock

import (
	"errors"
	"strings"
	"testing"
)

func TestPylockOfReport(t *testing.T) {
	// As pip 23.0 prints it, for a package of an index and a direct reference.
	report := `{"version": "1", "pip_version": "23.0.1", "install": [
{"download_info": {"url": "https://example.com/Foo-1.0-py3-none-any.whl", "archive_info": {"hash": "sha256=` + sha + `"}},
 "is_direct": false, "metadata": {"name": "Foo", "version": "1.0"}},
{"download_info": {"url": "file:///w/bar-2-py3-none-any.whl", "archive_info": {"hash": "sha256=` + sha + `", "hashes": {"sha256": "` + sha + `"}}},
 "is_direct": true, "metadata": {"name": "bar", "version": "2"}}]}`
	pylock, err := PylockOfReport([]byte(report))
	if err != nil {
		t.Fatal(err)
	}
	l, err := ReadPylock(pylock, "/project")
	if err != nil {
		t.Fatalf("%v in\n%s", err, pylock)
	}
	pins, err := l.Select(python312(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(pins) != 2 || pins[0].String() != "foo 1.0" || pins[0].Direct || pins[0].URL == "" || pins[0].Hashes["sha256"] != sha ||
		pins[1].String() != "bar 2" || !pins[1].Direct || pins[1].Path != "/w/bar-2-py3-none-any.whl" {
		t.Errorf("found %+v", pins)
	}
	empty, err := PylockOfReport([]byte(`{"version": "1", "install": []}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPylock(empty, "/project"); err != nil {
		t.Errorf("of an empty report: %v", err)
	}
}

func TestPylockOfReportErrors(t *testing.T) {
	tests := []struct{ name, report, want string }{
		{"not JSON", "Looking in links", "isn't JSON"},
		{"another version", `{"version": "2"}`, `found version "2"`},
		{"a directory", `{"version": "1", "install": [{"download_info": {"url": "file:///src", "dir_info": {}}, "metadata": {"name": "foo"}}]}`, "foo is no wheel but file:///src"},
		{"no info", `{"version": "1", "install": [{"download_info": {"url": "file:///src"}, "metadata": {"name": "foo"}}]}`, `pip's report, "foo"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := PylockOfReport([]byte(test.report)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
	_, err := PylockOfReport([]byte(tests[2].report))
	if !errors.Is(err, ErrNoWheel) {
		t.Errorf("error %v isn't ErrNoWheel", err)
	}
}
