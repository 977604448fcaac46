package marker

import (
	"errors"
	"slices"
	"testing"

	"github.com/sitefs/sitefs/manifest/internal/vectors"
)

// section returns one section of testdata/markers.json: inputs and results of
// the packaging library's own test suite, and its answers for the markers of
// real projects in eight environments.
func section[In, Out any](t *testing.T, name string) []vectors.Vector[In, Out] {
	t.Helper()
	return vectors.Section[In, Out](t, "testdata/markers.json", name)
}

func TestVectorsParse(t *testing.T) {
	type in struct{ Marker string }
	type out struct{ Error, Canonical string }
	for _, v := range section[in, out](t, "parse") {
		m, err := Parse(v.Input.Marker)
		if (err != nil) != (v.Expected.Error != "") {
			t.Errorf("Parse(%q): error %v, want %q", v.Input.Marker, err, v.Expected.Error)
		}
		if err == nil && m.String() != v.Expected.Canonical {
			t.Errorf("Parse(%q).String() = %q, want %q", v.Input.Marker, m, v.Expected.Canonical)
		}
	}
}

func TestVectorsRequirementParse(t *testing.T) {
	type in struct{ Requirement string }
	type out struct {
		Error, Canonical, Name, Specifier string
		Extras                            []string
		URL, Marker                       *string
	}
	for _, v := range section[in, out](t, "requirement_parse") {
		r, err := ParseRequirement(v.Input.Requirement)
		w := v.Expected
		if (err != nil) != (w.Error != "") {
			t.Errorf("ParseRequirement(%q): error %v, want %q", v.Input.Requirement, err, w.Error)
		}
		if err != nil {
			continue
		}
		if w.URL == nil {
			w.URL = new(string)
		}
		if r.String() != w.Canonical || r.Name != w.Name || r.Specifiers.String() != w.Specifier ||
			!slices.Equal(r.Extras, w.Extras) || r.URL != *w.URL {
			t.Errorf("ParseRequirement(%q) = %q %+v, want %+v", v.Input.Requirement, r, r, w)
		}
		if (r.Marker != nil) != (w.Marker != nil) || r.Marker != nil && r.Marker.String() != *w.Marker {
			t.Errorf("ParseRequirement(%q).Marker = %v", v.Input.Requirement, r.Marker)
		}
	}
}

type evalOut struct {
	Error  string
	Result bool
}

func checkEval(t *testing.T, text string, env Environment, want evalOut) {
	t.Helper()
	m, err := Parse(text)
	if err != nil {
		t.Errorf("Parse(%q): %v", text, err)
		return
	}
	wantErr := map[string]error{"UndefinedComparison": ErrComparison, "UndefinedEnvironmentName": ErrUndefined}[want.Error]
	got, err := m.Eval(env)
	if !errors.Is(err, wantErr) || got != want.Result {
		t.Errorf("%s in %+v: %v, %v, want %+v", m, env, got, err, want)
	}
}

func TestVectorsEvaluate(t *testing.T) {
	type in struct {
		Marker, Context string
		Environment     struct {
			OSName                       string `json:"os_name"`
			SysPlatform                  string `json:"sys_platform"`
			PlatformMachine              string `json:"platform_machine"`
			PlatformPythonImplementation string `json:"platform_python_implementation"`
			PlatformRelease              string `json:"platform_release"`
			PlatformSystem               string `json:"platform_system"`
			PlatformVersion              string `json:"platform_version"`
			PythonVersion                string `json:"python_version"`
			PythonFullVersion            string `json:"python_full_version"`
			ImplementationName           string `json:"implementation_name"`
			ImplementationVersion        string `json:"implementation_version"`
			Extra                        string
			Extras                       []string
			DependencyGroups             []string `json:"dependency_groups"`
		}
	}
	contexts := map[string]Context{"metadata": Metadata, "lock_file": LockFile, "requirement": RequirementLine}
	for _, v := range section[in, evalOut](t, "evaluate_from_tests") {
		e := v.Input.Environment
		checkEval(t, v.Input.Marker, Environment{
			e.OSName, e.SysPlatform, e.PlatformMachine, e.PlatformPythonImplementation, e.PlatformRelease,
			e.PlatformSystem, e.PlatformVersion, e.PythonVersion, e.PythonFullVersion, e.ImplementationName,
			e.ImplementationVersion, contexts[v.Input.Context], e.Extra, e.Extras, e.DependencyGroups,
		}, v.Expected)
	}
}

// environments are those that the oracle sections name; where a name does not
// say a value, it is one that the expected results allow.
func environments() map[string]Environment {
	linux := func(python, full, machine string) Environment {
		return Environment{
			OSName: "posix", SysPlatform: "linux", PlatformMachine: machine, PlatformPythonImplementation: "CPython",
			PlatformRelease: "6.8.0-100-generic", PlatformSystem: "Linux", PlatformVersion: "#100-Ubuntu SMP",
			PythonVersion: python, PythonFullVersion: full, ImplementationName: "cpython", ImplementationVersion: full,
		}
	}
	arm := linux("3.12", "3.12.1", "aarch64")
	arm.PlatformRelease, arm.PlatformVersion = "5.10.0", "#1 SMP"
	darwin := linux("3.13", "3.13.0", "arm64")
	darwin.SysPlatform, darwin.PlatformSystem, darwin.PlatformRelease = "darwin", "Darwin", "24.1.0"
	darwin.PlatformVersion = "Darwin Kernel Version 24.1.0"
	win := linux("3.9", "3.9.13", "AMD64")
	win.OSName, win.SysPlatform, win.PlatformSystem, win.PlatformRelease = "nt", "win32", "Windows", "10"
	win.PlatformVersion = "10.0.19045"
	pypy := linux("3.10", "3.10.14", "x86_64")
	pypy.PlatformPythonImplementation, pypy.ImplementationName, pypy.ImplementationVersion = "PyPy", "pypy", "7.3.17"
	return map[string]Environment{
		"cpython-2.7.18-linux":     linux("2.7", "2.7.18", "x86_64"),
		"cpython-3.8.18-linux":     linux("3.8", "3.8.18", "x86_64"),
		"cpython-3.9.13-win":       win,
		"cpython-3.11.7-linux":     linux("3.11", "3.11.7", "x86_64"),
		"cpython-3.12.1-linux-arm": arm,
		"cpython-3.13.0-darwin":    darwin,
		"cpython-3.14.0rc2-linux":  linux("3.14", "3.14.0rc2", "x86_64"),
		"pypy-3.10.14-linux":       pypy,
	}
}

func TestVectorsEvaluateOracle(t *testing.T) {
	type in struct{ Marker, Env, Extra string }
	envs := environments()
	for _, v := range section[in, evalOut](t, "evaluate_oracle") {
		env, ok := envs[v.Input.Env]
		if !ok {
			t.Fatalf("no environment %q", v.Input.Env)
		}
		env.Extra = v.Input.Extra
		checkEval(t, v.Input.Marker, env, v.Expected)
	}
}

func TestVectorsEvaluateLockFileOracle(t *testing.T) {
	type in struct {
		Marker, Env string
		Extras      []string
		Groups      []string `json:"dependency_groups"`
	}
	envs := environments()
	for _, v := range section[in, evalOut](t, "evaluate_lockfile_oracle") {
		env, ok := envs[v.Input.Env]
		if !ok {
			t.Fatalf("no environment %q", v.Input.Env)
		}
		env.Context, env.Extras, env.DependencyGroups = LockFile, v.Input.Extras, v.Input.Groups
		checkEval(t, v.Input.Marker, env, v.Expected)
	}
}
