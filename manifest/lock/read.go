package lock

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Read reads the lock file whose absolute path and content are given; its name
// says which syntax it has. An error names the file and, for one of a syntax that
// isn't read here, the command that makes a pylock.toml of it.
func Read(path string, data []byte) (*Pylock, error) {
	if err := checkSyntax(path); err != nil {
		return nil, err
	}
	l, err := ReadPylock(data, filepath.Dir(path))
	var field *FieldError
	if errors.As(err, &field) {
		return nil, fmt.Errorf("%s: %w: lock again with the tool that wrote it", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

// checkSyntax refuses what is known to be no pylock.toml. PEP 751 wants the name
// pylock.toml or pylock.NAME.toml; a file of another name that ends in .toml may
// be one all the same.
func checkSyntax(path string) error {
	switch base := filepath.Base(path); {
	case base == "uv.lock":
		return fmt.Errorf("%s: sitefs doesn't read uv.lock yet: make a pylock.toml of it with \"uv export --no-emit-project --format pylock.toml -o pylock.toml\"", path)
	case base == "pyproject.toml":
		return fmt.Errorf("%s is no lock file: make one with \"uv export --no-emit-project --format pylock.toml -o pylock.toml\" or \"pip lock .\"", path)
	case strings.HasSuffix(base, ".txt"), strings.HasSuffix(base, ".in"):
		return fmt.Errorf("%s: sitefs doesn't read requirements files yet: make a pylock.toml of it with \"uv pip compile --format pylock.toml -o pylock.toml %s\" or \"pip lock -r %s\"", path, base, base)
	case !strings.HasSuffix(base, ".toml"):
		return fmt.Errorf("%s: found a file that isn't named like a pylock.toml, the only lock file that sitefs reads: export one with the tool that wrote it", path)
	}
	return nil
}
