//go:build !linux

package faults

import (
	"context"
	"errors"
	"os/exec"
)

// Run returns an error: there is no seccomp here.
func Run(context.Context, *exec.Cmd, []string, func(Call) Answer) ([]Call, error) {
	return nil, errors.New("a system call can only be made to fail on Linux")
}
