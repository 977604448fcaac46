package wheel

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// An EntryPoint is a command that an installer generates
// (packaging.python.org, "Entry points specification").
type EntryPoint struct {
	Name   string // of the script
	Module string // dotted module to import
	Attr   string // dotted attribute to call
	GUI    bool   `json:",omitempty"`
}

const (
	consoleScripts = "console_scripts"
	guiScripts     = "gui_scripts"
)

// ParseEntryPoints reads the scripts of entry_points.txt, console before gui.
// The file is INI as importlib.metadata reads it, narrowed to where configparser
// agrees. Other groups belong to other readers and are not looked at.
// A name that comes twice means its last line, and a warning.
func ParseEntryPoints(b []byte) (points []EntryPoint, warnings []string, err error) {
	lines, err := splitINI(b)
	if err != nil {
		return nil, nil, err
	}
	groups := map[string][]EntryPoint{}
	group := ""
	for _, line := range lines {
		if name, ok, err := parseGroup(line); err != nil {
			return nil, nil, err
		} else if ok {
			group = name
			continue
		}
		if group != consoleScripts && group != guiScripts {
			continue
		}
		p, err := parseEntryPoint(line)
		if err != nil {
			return nil, nil, err
		}
		p.GUI = group == guiScripts
		groups[group] = append(groups[group], p)
	}
	all := append(groups[consoleScripts], groups[guiScripts]...)
	points, warnings = lastOfEach(all)
	return points, warnings, nil
}

// lastOfEach keeps the last entry point of each name.
func lastOfEach(all []EntryPoint) (points []EntryPoint, warnings []string) {
	last := make(map[string]int, len(all))
	for i, p := range all {
		last[p.Name] = i
	}
	for i, p := range all {
		if j := last[p.Name]; j != i {
			warnings = append(warnings, fmt.Sprintf("entry point %q is declared more than once; %s:%s wins over %s:%s", p.Name, all[j].Module, all[j].Attr, p.Module, p.Attr))
			continue
		}
		points = append(points, p)
	}
	return points, warnings
}

// splitINI returns the lines that are neither empty nor comments, trimmed.
func splitINI(b []byte) ([]string, error) {
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	if !utf8.Valid(b) {
		return nil, invalidf("not UTF-8")
	}
	var lines []string
	for line := range strings.FieldsFuncSeq(string(b), func(c rune) bool { return c == '\n' || c == '\r' }) {
		for _, c := range line {
			// str.splitlines ends a line at some of these, configparser does not.
			if unicode.IsControl(c) && c != '\t' || c == '\u2028' || c == '\u2029' {
				return nil, invalidf("control character %U in line %.200q", c, line)
			}
		}
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// parseGroup reads a line such as "[console_scripts]".
func parseGroup(line string) (name string, ok bool, err error) {
	if !strings.HasPrefix(line, "[") {
		return "", false, nil
	}
	name, ok = strings.CutSuffix(line[1:], "]")
	if !ok || strings.ContainsAny(name, "[]") {
		return "", false, invalidf("line %.200q is not a group header, want %q", line, "[name]")
	}
	return name, true, nil
}

// parseEntryPoint reads "name = module : attr.attr [extras]". The extras, which
// nothing acts on any more, are dropped.
func parseEntryPoint(line string) (EntryPoint, error) {
	name, value, ok := strings.Cut(line, "=")
	if !ok {
		return EntryPoint{}, invalidf("line %.200q has no %q, want %q", line, "=", "name = module:attr")
	}
	p := EntryPoint{Name: strings.TrimSpace(name)}
	if err := checkScriptName(p.Name); err != nil {
		return EntryPoint{}, err
	}
	value = strings.TrimSpace(value)
	if object, extras, ok := strings.Cut(value, "["); ok {
		if !strings.HasSuffix(extras, "]") {
			return EntryPoint{}, invalidf("entry point %q has unclosed extras: %.200q", p.Name, value)
		}
		value = object
	}
	module, attr, ok := strings.Cut(value, ":")
	p.Module, p.Attr = strings.TrimSpace(module), strings.TrimSpace(attr)
	if !ok || !isDotted(p.Module) || !isDotted(p.Attr) {
		return EntryPoint{}, invalidf("entry point %q is %.200q, want %q with dotted Python names", p.Name, value, "module:attr")
	}
	return p, nil
}

// checkScriptName refuses a name that is no file name, or that configparser
// would read as something else.
func checkScriptName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return invalidf("entry point name %q is not a file name", name)
	case len(name) > maxComponent:
		return invalidf("entry point name of %d bytes, want at most %d: %.200q", len(name), maxComponent, name)
	case strings.ContainsAny(name, `/\`):
		return invalidf("entry point name %q holds a path separator", name)
	case strings.HasPrefix(name, ";"):
		return invalidf("entry point name %q starts with %q, which other readers take for a comment; delete the line or use %q", name, ";", "#")
	case isReservedScript(name):
		return reservedf("entry point", name)
	}
	return nil
}

// isDotted reports whether s is Python names joined by dots, as far as the
// installer's pattern [\w.]+ cares: keywords and normalisation are Python's.
func isDotted(s string) bool {
	for name := range strings.SplitSeq(s, ".") {
		if name == "" || '0' <= name[0] && name[0] <= '9' {
			return false
		}
		for _, c := range name {
			if c != '_' && !unicode.IsLetter(c) && !unicode.IsNumber(c) {
				return false
			}
		}
	}
	return true
}
