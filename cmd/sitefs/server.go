package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
	"github.com/sitefs/sitefs/fusefs/mount"
)

// newServer returns the hidden verb that a mount's supervisor runs as.
func newServer() *cobra.Command {
	var server session.Server
	c := &cobra.Command{
		Use:    session.ServerVerb + " DIR",
		Short:  "Serve a mount (started by sitefs itself)",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if done, err := mount.Daemonize(); done || err != nil {
				return err
			}
			server.Dir = args[0]
			return server.Serve(c.Context())
		},
	}
	registerWorker(c, &server.Worker)
	f := c.Flags()
	f.DurationVar(&server.Keep, "keep", defaultKeep, "")
	f.StringVar(&server.Rung, "rung", "", "")
	f.BoolVar(&server.AllowOther, "allow-other", false, "")
	f.StringVar(&server.PythonFile, "python-file", "", "")
	f.StringVar(&server.Info, "info", "{}", "")
	f.BoolVar(&server.Scratch, "scratch", false, "")
	f.StringVar(&server.Stands, "stands", "", "")
	return c
}

// newWorker returns the hidden verb that serves a mount.
func newWorker() *cobra.Command {
	var worker session.Worker
	c := &cobra.Command{
		Use:    session.WorkerVerb,
		Short:  "Answer for a mount (started by its supervisor)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(c *cobra.Command, _ []string) error { return worker.Serve(c.Context()) },
	}
	registerWorker(c, &worker)
	return c
}

func registerWorker(c *cobra.Command, w *session.Worker) {
	registerHost(c, &w.Host)
	f := c.Flags()
	f.StringVar(&w.Prefix, "prefix", "", "")
	f.StringVar(&w.Layout, "layout", session.LayoutVenv, "")
	f.Uint32Var(&w.UID, "uid", uint32(os.Getuid()), "")
	f.Uint32Var(&w.GID, "gid", uint32(os.Getgid()), "")
	f.StringVar(&w.Overlay, "overlay", "", "")
	f.BoolVar(&w.Rebase, "rebase", false, "")
}

// newHost returns the hidden verb that compiles for a mount.
func newHost() *cobra.Command {
	var host session.Host
	c := &cobra.Command{
		Use:    session.HostVerb,
		Short:  "Compile for a mount (started by its server)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(c *cobra.Command, _ []string) error { return host.Serve(c.Context()) },
	}
	registerHost(c, &host)
	return c
}

func registerHost(c *cobra.Command, h *session.Host) {
	f := c.Flags()
	f.StringVar(&h.Store, "store", "", "")
	f.StringVar(&h.Tree, "tree", "", "")
	f.StringVar(&h.Python, "python", "", "")
	f.StringVar(&h.Code.Tag, "cache-tag", "", "")
	f.StringVar(&h.Code.Magic, "magic", "", "")
}
