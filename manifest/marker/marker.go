// Package marker reads and evaluates environment markers and the requirements
// that carry them (packaging.python.org "Dependency specifiers", PEP 508; the
// lock-file markers of PEP 751).
//
// Comparisons follow the rules of 2026, as the packaging library 26.3 has them:
// only four variables compare as versions, every other one as text, where "<"
// and ">" are false. A marker that asks for what an environment does not define
// is an error and never a guess. The package reads no machine: what python says
// of itself arrives as an [Environment].
package marker

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/manifest/pyver"
)

// ErrUndefined is wrapped by the error of Eval when a marker names a variable
// that has no value in the environment's context.
var ErrUndefined = errors.New("marker variable is not defined here")

// ErrComparison is wrapped by the error of Eval when a marker compares what
// can't be compared.
var ErrComparison = errors.New("marker comparison is not defined")

// A Context is where a marker stands; it decides which of the variables extra,
// extras and dependency_groups are defined.
type Context uint8

const (
	// Metadata is a wheel's or a project's dependency list: extra is defined.
	Metadata Context = iota
	// LockFile is a pylock.toml: extras and dependency_groups are defined.
	LockFile
	// RequirementLine is anything else, a line of requirements.txt: none is.
	RequirementLine
)

// An Environment holds what markers ask about. The first eleven fields come
// from an interpreter, the others from whoever evaluates.
type Environment struct {
	OSName                       string
	SysPlatform                  string
	PlatformMachine              string
	PlatformPythonImplementation string
	PlatformRelease              string
	PlatformSystem               string
	PlatformVersion              string
	PythonVersion                string
	PythonFullVersion            string
	ImplementationName           string
	ImplementationVersion        string

	Context          Context
	Extra            string   // defined in Metadata, or where not empty
	Extras           []string // defined in LockFile, or where not nil
	DependencyGroups []string // the same
}

// A Marker is a parsed marker expression.
type Marker struct{ root node }

// String returns the normalized spelling: double quotes, single spaces, only
// the parentheses that the meaning needs.
func (m *Marker) String() string {
	if g, ok := m.root.(group); ok {
		return g.join()
	}
	return m.root.String()
}

// Eval reports whether the marker holds in env. Every part is evaluated, so an
// error does not depend on the order of the parts.
func (m *Marker) Eval(env Environment) (bool, error) {
	ok, err := m.root.eval(&env)
	if err != nil {
		return false, fmt.Errorf("marker %q: %w", m, err)
	}
	return ok, nil
}

// A node is a comparison or a group.
type node interface {
	String() string
	eval(*Environment) (bool, error)
}

// A group is alternatives (or) of nodes that must all hold (and).
type group [][]node

func (g group) String() string { return "(" + g.join() + ")" }

func (g group) join() string {
	alternatives := make([]string, len(g))
	for i, all := range g {
		parts := make([]string, len(all))
		for j, n := range all {
			parts[j] = n.String()
		}
		alternatives[i] = strings.Join(parts, " and ")
	}
	return strings.Join(alternatives, " or ")
}

func (g group) eval(env *Environment) (bool, error) {
	holds := false
	for _, nodes := range g {
		all := true
		for _, n := range nodes {
			ok, err := n.eval(env)
			if err != nil {
				return false, err
			}
			all = all && ok
		}
		holds = holds || all
	}
	return holds, nil
}

// An operand is a variable or a quoted text.
type operand struct {
	variable variable // "" for text
	text     string
}

func (o operand) String() string {
	if o.variable != "" {
		return string(o.variable)
	}
	return quote(o.text)
}

// A comparison is one "left operator right".
type comparison struct {
	left  operand
	op    string
	right operand
}

func (c comparison) String() string {
	return c.left.String() + " " + c.op + " " + c.right.String()
}

func (c comparison) eval(env *Environment) (bool, error) {
	if c.left.variable.isSet() {
		return false, fmt.Errorf("%w: %q holds names, write %q", ErrComparison, c.left.variable, `"name" in `+string(c.left.variable))
	}
	left, err := env.value(c.left)
	if err != nil {
		return false, err
	}
	if c.right.variable.isSet() {
		return c.member(left, env)
	}
	right, err := env.value(c.right)
	if err != nil {
		return false, err
	}
	if c.comparesVersions() {
		if spec, err := pyver.ParseSpecifier(c.op + right); err == nil {
			return spec.ContainsString(left, pyver.Allow), nil
		}
	}
	return compareText(left, c.op, right)
}

// comparesVersions reports whether the variable in the comparison holds a version.
func (c comparison) comparesVersions() bool {
	v := c.left.variable
	if v == "" {
		v = c.right.variable
	}
	return v.isVersion()
}

// member evaluates `"name" in extras` and its like.
func (c comparison) member(name string, env *Environment) (bool, error) {
	names, err := env.names(c.right.variable)
	if err != nil {
		return false, err
	}
	found := slices.ContainsFunc(names, func(n string) bool {
		return pyver.CanonicalName(n) == pyver.CanonicalName(name)
	})
	switch c.op {
	case "in":
		return found, nil
	case "not in":
		return !found, nil
	}
	return false, fmt.Errorf("%w: %q is no operator for %q, which takes in and not in", ErrComparison, c.op, c.right.variable)
}

// compareText compares what has no order: only equality and containment mean
// something.
func compareText(left, op, right string) (bool, error) {
	switch op {
	case "==", "<=", ">=":
		return left == right, nil
	case "!=":
		return left != right, nil
	case "<", ">":
		return false, nil
	case "in":
		return strings.Contains(right, left), nil
	case "not in":
		return !strings.Contains(right, left), nil
	}
	return false, fmt.Errorf("%w: %s %s %s compares no versions", ErrComparison, quote(left), op, quote(right))
}

// value returns the text of an operand that holds no set.
func (env *Environment) value(o operand) (string, error) {
	switch o.variable {
	case "":
		return o.text, nil
	case osName:
		return env.OSName, nil
	case sysPlatform:
		return env.SysPlatform, nil
	case platformMachine:
		return env.PlatformMachine, nil
	case platformPythonImplementation:
		return env.PlatformPythonImplementation, nil
	case platformRelease:
		return env.PlatformRelease, nil
	case platformSystem:
		return env.PlatformSystem, nil
	case platformVersion:
		return env.PlatformVersion, nil
	case pythonVersion:
		return env.PythonVersion, nil
	case pythonFullVersion:
		return repairFullVersion(env.PythonFullVersion), nil
	case implementationName:
		return env.ImplementationName, nil
	case implementationVersion:
		return env.ImplementationVersion, nil
	case extra:
		if env.Context == Metadata || env.Extra != "" {
			return pyver.CanonicalName(env.Extra), nil
		}
	}
	return "", fmt.Errorf("%w: %q", ErrUndefined, o.variable)
}

// names returns the value of a variable that holds a set.
func (env *Environment) names(v variable) ([]string, error) {
	names := env.Extras
	if v == dependencyGroups {
		names = env.DependencyGroups
	}
	if names == nil && env.Context != LockFile {
		return nil, fmt.Errorf("%w: %q", ErrUndefined, v)
	}
	return names, nil
}

// repairFullVersion completes the "3.13.0+" of a python built between two
// tags, which is no version.
func repairFullVersion(s string) string {
	if strings.HasSuffix(s, "+") {
		return s + "local"
	}
	return s
}

// A variable is the name of something that an environment defines.
type variable string

const (
	osName                       variable = "os_name"
	sysPlatform                  variable = "sys_platform"
	platformMachine              variable = "platform_machine"
	platformPythonImplementation variable = "platform_python_implementation"
	platformRelease              variable = "platform_release"
	platformSystem               variable = "platform_system"
	platformVersion              variable = "platform_version"
	pythonVersion                variable = "python_version"
	pythonFullVersion            variable = "python_full_version"
	implementationName           variable = "implementation_name"
	implementationVersion        variable = "implementation_version"
	extra                        variable = "extra"
	extras                       variable = "extras"
	dependencyGroups             variable = "dependency_groups"
)

// lookupVariable returns the variable of that name. The names with a dot and
// python_implementation are what PEP 345 and setuptools once called them.
func lookupVariable(name string) (variable, bool) {
	switch v := variable(name); v {
	case osName, sysPlatform, platformMachine, platformPythonImplementation, platformRelease, platformSystem,
		platformVersion, pythonVersion, pythonFullVersion, implementationName, implementationVersion,
		extra, extras, dependencyGroups:
		return v, true
	}
	switch name {
	case "os.name":
		return osName, true
	case "sys.platform":
		return sysPlatform, true
	case "platform.version":
		return platformVersion, true
	case "platform.machine":
		return platformMachine, true
	case "platform.python_implementation", "python_implementation":
		return platformPythonImplementation, true
	}
	return "", false
}

func (v variable) isSet() bool { return v == extras || v == dependencyGroups }

func (v variable) isVersion() bool {
	switch v {
	case pythonVersion, pythonFullVersion, implementationVersion, platformRelease:
		return true
	}
	return false
}
