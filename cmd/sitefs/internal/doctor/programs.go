package doctor

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// python looks for an interpreter.
func (m *Machine) python(ctx context.Context) []Check {
	c := Check{Name: "python", Status: OK, Wanted: "CPython 3.8 or newer, or PyPy"}
	p, err := m.Python(ctx)
	if err != nil {
		c.Status, c.Found, c.Fix = Failure, err.Error(), "install Python, or name it with --python or SITEFS_PYTHON"
	} else {
		c.Found = p.String()
	}
	return []Check{c}
}

// resolver looks for a program that resolves requirements. One is enough, and pip
// takes its time to tell its version.
func (m *Machine) resolver(ctx context.Context) []Check {
	c := Check{Name: "resolver", Status: OK, Wanted: "uv or pip, for --with; a lock file needs neither"}
	for _, program := range []string{"uv", "pip", "pip3"} {
		path, err := m.LookPath(program)
		if err != nil {
			continue
		}
		if c.Found, err = m.Output(ctx, path, "--version"); err == nil {
			return []Check{c}
		}
	}
	if p, err := m.Python(ctx); err == nil { // whose pip need not be on PATH
		if c.Found, err = m.Output(ctx, p.Executable, "-m", "pip", "--version"); err == nil {
			return []Check{c}
		}
	}
	c.Status, c.Found, c.Fix = Warning, "neither uv nor pip works", "install uv, or pip with: python -m ensurepip"
	return []Check{c}
}

// path looks for environments on PATH: of two, one hides the other.
func (m *Machine) path(context.Context) []Check {
	c := Check{Name: "PATH", Status: OK, Found: "no environment", Wanted: "one environment at most, that of VIRTUAL_ENV"}
	var venvs []string
	for _, dir := range filepath.SplitList(m.Getenv("PATH")) {
		venv := filepath.Dir(dir)
		if filepath.IsAbs(dir) && m.exists(filepath.Join(venv, "pyvenv.cfg")) && !slices.Contains(venvs, venv) {
			venvs = append(venvs, venv)
		}
	}
	active := m.Getenv("VIRTUAL_ENV")
	switch {
	case len(venvs) > 1:
		c.Status, c.Found = Warning, "two environments or more: "+strings.Join(venvs, ", ")
		c.Fix = "deactivate, or start a new shell; programs are taken from the first"
	case active != "" && !slices.Contains(venvs, filepath.Clean(active)):
		c.Status, c.Found = Warning, fmt.Sprintf("VIRTUAL_ENV is %s, and its bin is not on PATH", active)
		c.Fix = "unset VIRTUAL_ENV"
	case len(venvs) == 1:
		c.Found = venvs[0]
	}
	return []Check{c}
}

// founded is before the first commit of sitefs: a clock that shows an earlier time is
// wrong.
var founded = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// clock looks at whether the clock was ever set.
func (m *Machine) clock(context.Context) []Check {
	now := m.Now().UTC()
	c := Check{Name: "clock", Status: OK, Found: now.Format(time.DateTime) + " UTC", Wanted: "the time of day: certificates are checked against it"}
	if now.Before(founded) {
		c.Status, c.Fix = Warning, "as root: timedatectl set-ntp true"
		if m.OS == "darwin" {
			c.Fix = "sudo systemsetup -setusingnetworktime on"
		}
	}
	return []Check{c}
}
