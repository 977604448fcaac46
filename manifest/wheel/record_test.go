package wheel

import (
	"reflect"
	"testing"

	"github.com/sitefs/sitefs/manifest/digest"
)

func TestFormatRecord(t *testing.T) {
	d := digest.Of(nil)
	rows := []RecordRow{
		{"demo/__init__.py", RecordSum{"sha256", d[:]}, 0},
		{"../../../bin/demo", RecordSum{"sha256", d[:]}, 12},
		{`demo/a "quoted", name.txt`, RecordSum{"sha256", d[:]}, -1},
		{"demo-1.0.dist-info/RECORD", RecordSum{}, -1},
	}
	const sum = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
	want := "../../../bin/demo," + sum + ",12\n" +
		"demo-1.0.dist-info/RECORD,,\n" +
		"demo/__init__.py," + sum + ",0\n" +
		`"demo/a ""quoted"", name.txt",` + sum + ",\n"
	got := FormatRecord(rows)
	if string(got) != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	parsed, err := ParseRecord(got, func(err error) error { return err })
	if err != nil {
		t.Fatal(err)
	}
	if want := []RecordRow{rows[1], rows[3], rows[0], rows[2]}; !reflect.DeepEqual(parsed, want) {
		t.Errorf("parsed %v, want %v", parsed, want)
	}
}
