package wheel

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sitefs/sitefs/manifest/digest"
)

// meta is the demo wheel with another METADATA, WHEEL or entry_points.txt.
func meta(name, data string) zipFile { return demoWheel(file(info+name, data)) }

// recordWith is the demo wheel with demo/x.py and, for it, these rows.
func recordWith(rows string) zipFile {
	x := file("demo/x.py", "x = 1\n")
	others := demoWheel().members
	return demoWheel(x, file(info+"RECORD", rows+recordOf(others[:len(others)-1])))
}

func TestRefused(t *testing.T) {
	sum := digest.Of([]byte("x = 1\n")).Record()
	for _, tt := range []struct {
		name string
		zip  zipFile
		want string
	}{
		{"METADATA without Name", meta("METADATA", "Metadata-Version: 2.1\nVersion: 1.0\n"), "has no Name"},
		{"METADATA without Version", meta("METADATA", "Metadata-Version: 2.1\nName: demo\n\nVersion: 1.0\n"), "has no Version"},
		{"other Name", meta("METADATA", "Metadata-Version: 2.1\nName: other\nVersion: 1.0\n"), `Name is "other", the file name says "demo"`},
		{"other Version", meta("METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.1\n"), `Version is "1.1", the file name says "1.0"`},
		{"bad Version", meta("METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: one\n"), "Version"},
		{"Metadata-Version 3.0", meta("METADATA", "Metadata-Version: 3.0\nName: demo\nVersion: 1.0\n"), "needs a newer sitefs"},
		{"Metadata-Version x", meta("METADATA", "Metadata-Version: x\nName: demo\nVersion: 1.0\n"), "is not a version"},
		{"field that is not UTF-8", meta("METADATA", metadata+"Requires-Dist: \xff\n"), "is not UTF-8"},
		{"long METADATA", meta("METADATA", metadata+"\n"+strings.Repeat("x", maxMetadata)), "want at most 4194304"},
		{"WHEEL without Wheel-Version", meta("WHEEL", "Root-Is-Purelib: true\n"), "has no Wheel-Version"},
		{"Wheel-Version 2.0", meta("WHEEL", "Wheel-Version: 2.0\n"), "needs a newer sitefs"},
		{"Wheel-Version 0.9", meta("WHEEL", "Wheel-Version: 0.9\n"), "want 1.0 or later"},
		{"no WHEEL", zipFile{members: []zipMember{file(info+"METADATA", metadata)}}, `no "demo-1.0.dist-info/WHEEL"`},

		{"two dist-info directories", demoWheel(file("Demo-1.0.dist-info/x", "")), `directories "Demo-1.0.dist-info" and "demo-1.0.dist-info", want one`},
		{"dist-info that is a file", demoWheel(file("demo-1.0.dist-info", "")), "is a file, want a directory"},
		{"dist-info of a longer name", demoWheel(file("demo_x-1.0.dist-info/x", "")), "is not of the project"},
		{"two .data directories", demoWheel(file("demo-1.0.data/data/x", ""), file("Demo-1.0.data/data/x", "")), "want one"},

		{"file in .data", demoWheel(file("demo-1.0.data/x", "")), "directly in the .data directory"},
		{"unknown scheme", demoWheel(file("demo-1.0.data/stdlib/x", "")), `"stdlib" is no scheme`},
		{"script in a subdirectory", demoWheel(file("demo-1.0.data/scripts/a/b", "")), "no subdirectories"},
		{"bin/python3.12", demoWheel(file("demo-1.0.data/scripts/python3.12", "")), "every virtual environment"},
		{"bin/python3.13t", demoWheel(file("demo-1.0.data/scripts/python3.13t", "")), "every virtual environment"},
		{"bin/pypy3", demoWheel(file("demo-1.0.data/scripts/pypy3", "")), "every virtual environment"},
		{"bin/activate", demoWheel(file("demo-1.0.data/scripts/activate", "")), "every virtual environment"},
		{"bin/activate.fish as data", demoWheel(file("demo-1.0.data/data/bin/activate.fish", "")), "every virtual environment"},
		{"pyvenv.cfg", demoWheel(file("demo-1.0.data/data/pyvenv.cfg", "")), "every virtual environment"},
		{"lib64", demoWheel(file("demo-1.0.data/data/lib64/x", "")), "every virtual environment"},
		{".gitignore", demoWheel(file("demo-1.0.data/data/.gitignore", "")), "every virtual environment"},
		{"CACHEDIR.TAG", demoWheel(file("demo-1.0.data/data/CACHEDIR.TAG", "")), "every virtual environment"},
		{"file and directory", demoWheel(file("demo/x", ""), file("demo/x/y/z", "")), "is a file and a directory"},
		{"file and directory, spread", demoWheel(file("demo/x", ""), file("demo-1.0.data/platlib/demo/x/y", "")), "is a file and a directory"},
		{"spread over a file", demoWheel(file("demo/x", "1"), file("demo-1.0.data/platlib/demo/x", "2")), "go to one place"},
		{"spread over a file, one CRC-32", demoWheel(file("demo/x", "plumless"), file("demo-1.0.data/platlib/demo/x", "buckeroo")), "go to one place"},

		{"spread over a file, its twin differs", demoWheel(zipMember{name: "demo/x", data: "plumless"}, zipMember{name: "demo-1.0.data/platlib/demo/x", data: "plumless"}, zipMember{name: "demo-1.0.data/platlib/demo/x", data: "buckeroo"}), "different bytes"},
		{"RECORD in .data", demoWheel(file("demo-1.0.data/purelib/demo-1.0.dist-info/RECORD", "")), "second"},
		{"another dist-info in .data", demoWheel(file("demo-1.0.data/platlib/pip-99.dist-info/METADATA", "")), "second"},

		{"row that escapes", recordWith("../../../bin/x,,\n"), "leaves the directory"},
		{"size differs", recordWith("demo/x.py,sha256=" + sum + ",7\n"), "has 6 bytes, RECORD says 7"},
		{"size is no number", recordWith("demo/x.py,sha256=" + sum + ",six\n"), "is not a number of bytes"},
		{"negative size", recordWith("demo/x.py,sha256=" + sum + ",-6\n"), "is not a number of bytes"},
		{"no hash", recordWith("demo/x.py,,6\n"), "has no hash"},
		{"hash of another length", recordWith("demo/x.py,sha256=abcd,6\n"), "urlsafe base64 of 32 bytes"},
		{"sha1", recordWith("demo/x.py,sha1=" + sum + ",6\n"), "want one of sha256"},
		{"two fields", recordWith("demo/x.py,sha256=" + sum + "\n"), "2 fields"},
		{"open quote", recordWith("\"demo/x.py,sha256=" + sum + ",6\n"), "not closed"},
		{"text behind a quote", recordWith("\"demo/x\".py,sha256=" + sum + ",6\n"), "text follows a closing quote"},
		{"two rows that differ", recordWith("demo/x.py,sha256=" + sum + ",6\ndemo/x.py,sha256=" + digest.Of(nil).Record() + ",6\n"), "twice"},
		{"control character", recordWith("demo/x.py\x0b,sha256=" + sum + ",6\n"), "control character"},
		{"not UTF-8", recordWith("demo/\xff,,\n"), "not UTF-8"},
		{"wrong sha512", recordWith("demo/x.py,sha512=" + base64.RawURLEncoding.EncodeToString(make([]byte, 64)) + ",6\n"), "RECORD says AAAA"},
		{"long RECORD", recordWith(strings.Repeat("demo/none,,\n", 1<<17)), "want at most"},
		{"dropped bytecode, wrong hash", demoWheel(zipMember{name: "demo/__pycache__/x.pyc", data: "x", both: func(h *zipHeader) { h.CRC++ }}), "CRC-32"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := unpackIn(t, tt.zip)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestFileName(t *testing.T) {
	b := demoWheel().bytes()
	for name, ok := range map[string]bool{
		"demo-1.0-py3-none-any.whl":        true,
		"Demo-1.0.0-py3-none-any.whl":      true,
		"demo-1.0-1-py3-none-any.whl":      true,
		"demo-1.0-x1-py3-none-any.whl":     false,
		"demo-1.0.whl":                     false,
		"demo-1.0-1-2-py3-none-any.whl":    false,
		"demo-1.0-py3-none-any.zip":        false,
		"dir/demo-1.0-py3-none-any.whl":    false,
		"other-1.0-py3-none-any.whl":       false,
		"demo-2.0-py3-none-any.whl":        false,
		"de__mo-1.0-py3-none-any.whl":      false,
		"demo-1.0-py2.py3-none-any.whl":    true,
		"demo-one-py3-none-any.whl":        false,
		"demo-1.0-py3-none-any.whl.part":   false,
		"demo-1.0-cp39-cp39-win_amd64.whl": true,
	} {
		if _, err := Open(bytes.NewReader(b), int64(len(b)), name, Options{}); (err == nil) != ok {
			t.Errorf("%s: error %v, accepted %v", name, err, ok)
		}
	}
}

func TestInfo(t *testing.T) {
	script := "#!pythonw -E\nprint()\n"
	z := demoWheel(
		file("Demo/__init__.py", ""),
		zipMember{name: "demo/tool.sh", data: "#!/bin/sh\n", mode: 0o100755},
		zipMember{name: "demo/link", data: "tool.sh", mode: 0o120777},
		file("demo/__pycache__/x.cpython-312.pyc", "x"),
		file("demo-1.0.data/purelib/demo/extra.py", ""),
		file("demo-1.0.data/platlib/demo/ext.so", ""),
		file("demo-1.0.data/headers/demo.h", ""),
		file("demo-1.0.data/scripts/python-demo", script),
		file("demo-1.0.data/scripts/activate-demo", "#!/bin/sh\n"),
		file("demo-1.0.data/scripts/run", "print()\n"),
		file("demo-1.0.data/scripts/run.exe", "MZ"),
		file("demo-1.0.data/scripts/Run-script.py", ""),
		file("demo-1.0.data/data/share/demo/x", ""),
		file("demo-1.0.data/data/bin/pythonic", ""),
		file("demo/__INIT__.py", ""), // beside Demo/__init__.py
		file(info+"INSTALLER", "gen\n"),
		file(info+"REQUESTED", ""),
		file(info+"direct_url.json", "{}"),
		file(info+"METADATA", "Metadata-Version: 2.9\r\nName: De.Mo\r\nVersion: 1.0.0\r\nrequires-python: >=3.8,\r\n  <4\r\n"+
			"Requires-Dist: a\r\nRequires-Dist: b; extra == 'x'\r\nProvides-Extra: x\r\n\r\nName: body\r\n"),
		file(info+"WHEEL", "Wheel-Version: 1.1\nRoot-Is-Purelib: TRUE\nTag: py2-none-any\nTag: py3-none-any\nTag: x\n"),
		file(info+"entry_points.txt", "[gui_scripts]\nwin = demo:win\n[console_scripts]\nrun = demo.cli : Main.run [x]\n"),
	)
	for i := range z.members {
		z.members[i].name = strings.Replace(z.members[i].name, "demo-1.0.", "de_mo-1.0.", 1)
		z.members[i].data = strings.ReplaceAll(z.members[i].data, "demo-1.0.", "de_mo-1.0.")
	}
	b := z.bytes()
	w, err := Open(bytes.NewReader(b), int64(len(b)), "DE.MO-1.0-2b-py3-none-any.whl", Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := w.Info()
	want := &Info{
		Name: "de-mo", RawName: "De.Mo", Version: "1.0.0", Filename: "DE.MO-1.0-2b-py3-none-any.whl", Build: "2b",
		Tags: []string{"py3-none-any"}, DistInfo: "de_mo-1.0.dist-info", Purelib: true,
		RequiresPython: ">=3.8,  <4", RequiresDist: []string{"a", "b; extra == 'x'"}, ProvidesExtra: []string{"x"},
		EntryPoints: []EntryPoint{{Name: "run", Module: "demo.cli", Attr: "Main.run"}, {Name: "win", Module: "demo", Attr: "win", GUI: true}},
		Files:       got.Files,
		Warnings: []string{
			`"Demo/__init__.py" and "demo/__INIT__.py" differ only by case or Unicode form: a filesystem that ignores these can't hold both`,
			`"demo/link" is a symbolic link in the archive; it becomes a file that holds the link's target`,
			`Metadata-Version is 2.9, newer than 2.5`,
			`WHEEL has the tags py2-none-any py3-none-any, the file name py3-none-any`,
			`WHEEL: tag "x": 1 parts between dashes, want python-abi-platform`,
			`Wheel-Version is 1.1, newer than 1.0`,
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Info\n%s\nwant\n%s", got.Encode(), want.Encode())
	}
	var files []string
	for _, f := range got.Files {
		s := f.Scheme.String() + " " + f.Path
		if f.Exec {
			s += " x"
		}
		if f.Python {
			s += " python"
		}
		files = append(files, s)
	}
	if want := []string{
		"purelib Demo/__init__.py",
		"purelib de_mo-1.0.dist-info/METADATA",
		"purelib de_mo-1.0.dist-info/WHEEL",
		"purelib de_mo-1.0.dist-info/entry_points.txt",
		"purelib demo/__INIT__.py",
		"purelib demo/extra.py",
		"purelib demo/link",
		"purelib demo/tool.sh x",
		"platlib demo/ext.so",
		"headers demo.h",
		"scripts Run-script.py x",
		"scripts activate-demo x",
		"scripts python-demo x python",
		"data bin/pythonic",
		"data share/demo/x",
	}; !slices.Equal(files, want) {
		t.Errorf("files\n%s\nwant\n%s", strings.Join(files, "\n"), strings.Join(want, "\n"))
	}
	var size int64
	for _, m := range z.members {
		if !strings.Contains(m.name, "__pycache__") && !strings.HasSuffix(m.name, "/run") && !strings.HasSuffix(m.name, "/run.exe") &&
			!slices.Contains([]string{"INSTALLER", "REQUESTED", "direct_url.json", "RECORD"}, m.name[strings.LastIndex(m.name, "/")+1:]) {
			size += int64(len(m.data))
		}
	}
	if got.Size() != size {
		t.Errorf("Size is %d, want %d", got.Size(), size)
	}
}

func TestRecordAccepted(t *testing.T) {
	sum := digest.Of([]byte("x = 1\n")).Record()
	sha384, sha512 := sha512.Sum384([]byte("x = 1\n")), sha512.Sum512([]byte("x = 1\n"))
	for _, tt := range []struct{ name, rows, warning string }{
		{"plain", "demo/x.py,sha256=" + sum + ",6\n", ""},
		{"quoted", "\"demo/x.py\",\"sha256=" + sum + "\",\"6\"\n", ""},
		{"CRLF", "demo/x.py,sha256=" + sum + ",6\r\n", ""},
		{"padding", "demo/x.py,sha256=" + sum + "=,6\n", ""},
		{"dot", "./demo/x.py,sha256=" + sum + ",6\n", ""},
		{"slash", "/demo/x.py,sha256=" + sum + ",6\n", ""},
		{"no size", "demo/x.py,sha256=" + sum + ",\n", ""},
		{"twice", strings.Repeat("demo/x.py,sha256="+sum+",6\n", 2), ""},
		{"directory", "demo/,,\ndemo/x.py,sha256=" + sum + ",6\n", ""},
		{"empty line", "\n\r\ndemo/x.py,sha256=" + sum + ",6\n", ""},
		{"sha384", "demo/x.py,sha384=" + encodeSum(sha384[:]) + ",6\n", ""},
		{"sha512", "demo/x.py,sha512=" + encodeSum(sha512[:]) + ",6\n", ""},
		{"file that is not there", "demo/y.py,sha256=" + sum + ",6\ndemo/x.py,sha256=" + sum + ",6\n", `RECORD lists "demo/y.py"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, info, err := unpackIn(t, recordWith(tt.rows))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(info.Warnings, "\n"); !strings.Contains(got, tt.warning) || tt.warning == "" && got != "" {
				t.Errorf("warnings %q, want %q", got, tt.warning)
			}
		})
	}
}

func TestEntryPoints(t *testing.T) {
	for _, tt := range []struct{ name, text, want, err string }{
		{"spaces", "[console_scripts]\n  a=m:f  \n\tb  =  m.n  :  C.f  \n", "a=m:f b=m.n:C.f", ""},
		{"gui last", "[gui_scripts]\ng=m:f\n[console_scripts]\nc=m:f\n", "c=m:f g=m:f(gui)", ""},
		{"group twice", "[console_scripts]\na=m:f\n[x]\nnot an entry point\n[console_scripts]\nb=m:f", "a=m:f b=m:f", ""},
		{"last wins", "[console_scripts]\na=m:f\nb=m:f\na=m:g\n", "b=m:f a=m:g", ""},
		{"gui wins", "[gui_scripts]\na=m:g\n[console_scripts]\na=m:f\n", "a=m:g(gui)", ""},
		{"extras", "[console_scripts]\na=m:f [x,y]\nb=m:f[]\n", "a=m:f b=m:f", ""},
		{"comments and empty lines", "# x\n\n[console_scripts]\n # y = z\r\na=m:f\r\n", "a=m:f", ""},
		{"lines before a group", "a=m:f\n[console_scripts]\n", "", ""},
		{"a group like it", "[ console_scripts ]\na=m:f\n", "", ""},
		{"unicode", "[console_scripts]\nüben=übung:führe_aus\n", "üben=übung:führe_aus", ""},
		{"colon as delimiter", "[console_scripts]\na : m\n", "", `has no "="`},
		{"no attribute", "[console_scripts]\na = m\n", "", "dotted Python names"},
		{"empty attribute", "[console_scripts]\na = m:\n", "", "dotted Python names"},
		{"no module", "[console_scripts]\na = :f\n", "", "dotted Python names"},
		{"code", "[console_scripts]\na = m:f();import os\n", "", "dotted Python names"},
		{"two dots", "[console_scripts]\na = m..n:f\n", "", "dotted Python names"},
		{"digit", "[console_scripts]\na = m:1\n", "", "dotted Python names"},
		{"open extras", "[console_scripts]\na = m:f [x\n", "", "unclosed extras"},
		{"bad header", "[console_scripts\n", "", "not a group header"},
		{"two brackets", "[[console_scripts]]\n", "", "not a group header"},
		{"empty name", "[console_scripts]\n= m:f\n", "", "not a file name"},
		{"dot dot", "[console_scripts]\n.. = m:f\n", "", "not a file name"},
		{"slash", "[gui_scripts]\na/b = m:f\n", "", "path separator"},
		{"backslash", "[console_scripts]\na\\b = m:f\n", "", "path separator"},
		{"semicolon", "[console_scripts]\n; a = m:f\n", "", "comment"},
		{"long name", "[console_scripts]\n" + strings.Repeat("a", 256) + " = m:f\n", "", "256 bytes"},
		{"reserved", "[console_scripts]\npython3 = m:f\n", "", "every virtual environment"},
		{"control character", "[console_scripts]\na = m:f\x0bb = m:f\n", "", "control character"},
		{"not UTF-8", "[console_scripts]\na\xff = m:f\n", "", "not UTF-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			points, warnings, err := ParseEntryPoints([]byte(tt.text))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range points {
				s := p.Name + "=" + p.Module + ":" + p.Attr
				if p.GUI {
					s += "(gui)"
				}
				got = append(got, s)
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if wins := strings.Contains(tt.name, "wins"); wins != (len(warnings) == 1) {
				t.Errorf("warnings %q", warnings)
			}
		})
	}
}

func TestTwinNames(t *testing.T) {
	for _, pair := range [][2]string{
		{"demo/Read.me", "demo/README"},
		{"demo/x", "Demo/X"},
		{"demo/\u00e9", "demo/e\u0301"},
		{"demo/\u00c9", "demo/e\u0301"},
		{"demo/stra\u00dfe", "demo/STRASSE"},
		{"demo/x", "demo-1.0.data/platlib/demo/X"},
	} {
		var members []zipMember
		for _, name := range pair {
			members = append(members, zipMember{name: name, flags: flagUTF8})
		}
		_, info, err := unpackIn(t, demoWheel(members...))
		if err != nil {
			t.Fatal(err)
		}
		if twins := pair[1] != "demo/README"; twins != (len(info.Warnings) == 1) {
			t.Errorf("%q: warnings %q", pair, info.Warnings)
		}
	}
}

func TestWarnings(t *testing.T) {
	var rows strings.Builder
	for i := range 10 * MaxWarnings {
		fmt.Fprintf(&rows, "demo/%d,,\n", i)
	}
	sum := digest.Of([]byte("x = 1\n")).Record()
	_, info, err := unpackIn(t, recordWith(rows.String()+"demo/x.py,sha256="+sum+",6\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Warnings) != MaxWarnings || !slices.IsSorted(info.Warnings) {
		t.Errorf("%d warnings, want the first %d", len(info.Warnings), MaxWarnings)
	}
}

// TestConcurrent extracts all files at once, also where each adds a warning.
func TestConcurrent(t *testing.T) {
	var members []zipMember
	for i, method := range slices.Repeat([]uint16{methodStored, methodDeflate, methodZstd}, 20) {
		members = append(members, zipMember{name: fmt.Sprint("demo/", i), method: method, data: strings.Repeat("data ", i*1000)})
	}
	good := demoWheel(members...)
	wrong := strings.ReplaceAll(good.members[len(good.members)-1].data, "sha256=", "sha256=AAAA")
	wrong = regexp.MustCompile("(sha256=.{43})[^,]*").ReplaceAllString(wrong, "${1}")
	for _, tt := range []struct {
		name     string
		zip      zipFile
		warnings int
	}{
		{"good", good, 0},
		{"wrong hashes", demoWheel(append(slices.Clip(members), file(info+"RECORD", wrong))...), len(good.members) - 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := tt.zip.bytes()
			w, err := Open(bytes.NewReader(b), int64(len(b)), demo, Options{AllowBadRecord: tt.warnings > 0})
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for i, f := range w.Info().Files {
				wg.Go(func() {
					d, err := w.Extract(i, io.Discard)
					if err != nil || d != f.Digest && tt.warnings == 0 {
						t.Errorf("%s: digest %v, error %v", f.Path, d, err)
					}
				})
			}
			wg.Wait()
			if n := len(w.Info().Warnings); n != tt.warnings {
				t.Errorf("%d warnings, want %d", n, tt.warnings)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	var members []zipMember
	for i := range 5000 {
		members = append(members, file(fmt.Sprintf("demo/package_%d/module_%d.py", i/50, i), strings.Repeat("x = 1\n", i%100)))
	}
	z := demoWheel(members...).bytes()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(bytes.NewReader(z), int64(len(z)), demo, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkExtract(b *testing.B) {
	for _, tt := range []struct {
		name string
		size int
	}{{"4K", 4 << 10}, {"1M", 1 << 20}} {
		b.Run(tt.name, func(b *testing.B) {
			text := strings.Repeat("def function(argument):\n    return argument + 1\n", 1+tt.size/48)[:tt.size]
			z := demoWheel(file("demo/x.py", text)).bytes()
			w, err := Open(bytes.NewReader(z), int64(len(z)), demo, Options{})
			if err != nil {
				b.Fatal(err)
			}
			i := slices.IndexFunc(w.Info().Files, func(f File) bool { return f.Path == "demo/x.py" })
			b.SetBytes(int64(tt.size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Extract(i, io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
