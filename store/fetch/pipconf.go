package fetch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// pipCert returns the value of cert in pip's configuration files and the file
// that says it, empty if none does. pip itself isn't run: it may not be there,
// and takes half a second.
func pipCert(files []string, home string) (cert, file string, err error) {
	rank := 0
	for _, path := range files {
		values, err := readPipConfig(path)
		if err != nil {
			return "", "", err
		}
		// A section for the command beats the global one in whatever file.
		for i, section := range []string{"global", "install"} {
			if v := values[section+".cert"]; v != "" && i+1 >= rank {
				cert, file, rank = v, path, i+1
			}
		}
	}
	if rest, ok := strings.CutPrefix(cert, "~/"); ok {
		cert = filepath.Join(home, rest)
	}
	return cert, file, nil
}

// pipConfigFiles returns where pip's configuration may be, a later file beating
// an earlier one (pip's documentation, topic "Configuration").
func pipConfigFiles(getenv func(string) string) []string {
	named := getenv("PIP_CONFIG_FILE")
	if named == os.DevNull {
		return nil
	}
	var files []string
	add := func(elem ...string) {
		if elem[0] != "" {
			files = append(files, filepath.Join(append(elem, "pip.conf")...))
		}
	}
	home, configHome := getenv("HOME"), getenv("XDG_CONFIG_HOME")
	if runtime.GOOS == "darwin" {
		add("/Library/Application Support/pip")
	} else {
		dirs := getenv("XDG_CONFIG_DIRS")
		if dirs == "" {
			dirs = "/etc/xdg"
		}
		for _, dir := range filepath.SplitList(dirs) {
			add(dir, "pip")
		}
		add("/etc")
	}
	// A file named by the variable replaces the user's.
	if !isFile(named) {
		add(home, ".pip")
		switch {
		case configHome != "":
			add(configHome, "pip")
		case runtime.GOOS == "darwin" && isDir(filepath.Join(home, "Library/Application Support/pip")):
			add(home, "Library/Application Support/pip")
		default:
			add(home, ".config", "pip")
		}
	}
	add(getenv("VIRTUAL_ENV"))
	if named != "" {
		files = append(files, named)
	}
	return files
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// readPipConfig reads a file in the syntax of Python's configparser into
// "section.option", option names as pip normalises them. A file that isn't
// there, or that we may not read, is empty, as for pip.
func readPipConfig(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	values := make(map[string]string)
	section, option := "", ""
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		text := strings.TrimSpace(line)
		switch {
		case text == "" || text[0] == '#' || text[0] == ';':
		case option != "" && strings.ContainsAny(line[:1], " \t"):
			values[option] = strings.TrimSpace(values[option] + "\n" + text)
		case text[0] == '[' && strings.HasSuffix(text, "]"):
			section, option = text[1:len(text)-1], ""
		default:
			i := strings.IndexAny(text, "=:")
			if i <= 0 || section == "" {
				return nil, fmt.Errorf("pip's configuration file %q can't be read: line %d is neither a section nor NAME = VALUE", path, number)
			}
			name := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(text[:i])), "_", "-")
			option = section + "." + strings.TrimPrefix(name, "--")
			values[option] = strings.TrimSpace(text[i+1:])
		}
	}
	return values, nil
}
