// Package cli is the part of the command line that reads: it asks the API over HTTPS, or the files here, and prints. It changes
// nothing, and it knows neither the store nor the server. Start at Commands; each command has a file of its own.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The exit codes of every command.
const (
	exitOK        = 0 // fine, or no difference
	exitNegative  = 1 // the answer is no: differences, rejected, failed, not found
	exitError     = 2 // there is no answer
	exitInterrupt = 130
)

// The groups that the root's help shows commands in. The root must add them with these ids.
const (
	GroupCluster = "cluster"
	GroupCommit  = "commit"
	GroupRun     = "run"
)

// Groups are the headings of the root's help, in order.
func Groups() []*cobra.Group {
	return []*cobra.Group{
		{ID: GroupRun, Title: "Run a cluster:"},
		{ID: GroupCommit, Title: "Before and after a commit:"},
		{ID: GroupCluster, Title: "Look into the cluster:"},
	}
}

// Commands are all commands that read.
func Commands() []*cobra.Command {
	return []*cobra.Command{
		statusCommand(), getCommand(), describeCommand(), logsCommand(), eventsCommand(),
		historyCommand(), waitCommand(), lintCommand(), planCommand(), versionCommand(),
	}
}

// negative is the answer no. Its text, if any, has not been printed yet.
type negative struct{ text string }

func (n negative) Error() string { return n.text }

// no answers no and says why.
func no(format string, args ...any) error { return negative{fmt.Sprintf(format, args...)} }

// errSaidNo answers no after the command has printed why.
var errSaidNo = negative{}

// advice is an error whose text already says what to do about it. Its cause is for errors.Is and errors.As alone.
type advice struct {
	text string
	err  error
}

func (a advice) Error() string { return a.text }
func (a advice) Unwrap() error { return a.err }

// Execute runs root with args and returns the exit code: 0 fine, 1 a negative answer, 2 an error, 130 if ctx ended first.
// What went wrong is printed to root's error stream.
func Execute(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(usageError)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && ctx.Err() != nil {
		return exitInterrupt
	}
	if word, unknown := unknownCommand(root, args); err != nil && unknown {
		err = noCommand(root, word)
	}
	return report(cmd.ErrOrStderr(), err)
}

// report prints err and turns it into an exit code.
func report(w io.Writer, err error) int {
	var answer negative
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &answer):
		if answer.text != "" {
			fmt.Fprintln(w, answer.text)
		}
		return exitNegative
	}
	fmt.Fprintf(w, "%s %s\n", paint(w, red, "error:"), err)
	return exitError
}

func usageError(cmd *cobra.Command, err error) error {
	return fmt.Errorf("%w\nSee `%s --help`", plainFlagError(err), cmd.CommandPath())
}

// NoArgs is for commands that take flags alone. With commands below it, a word is taken for one of those.
func NoArgs(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case cmd.HasAvailableSubCommands():
		return noCommand(cmd, args[0])
	}
	return usageError(cmd, fmt.Errorf("`%s` takes no arguments, but was given %q", cmd.CommandPath(), args[0]))
}

// OneArg is for commands that take one argument; what says which, such as "the ID of a token".
func OneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError(cmd, fmt.Errorf("`%s` takes one argument, %s, not %d", cmd.CommandPath(), what, len(args)))
		}
		return nil
	}
}

// AtMostOneArg is for commands that take one argument or none; what says which.
func AtMostOneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usageError(cmd, fmt.Errorf("`%s` takes at most one argument, %s, not %d", cmd.CommandPath(), what, len(args)))
		}
		return nil
	}
}

// unknownCommand returns the word of args that should be one of root's commands and is none.
func unknownCommand(root *cobra.Command, args []string) (word string, unknown bool) {
	_, _, err := root.Find(args)
	if err == nil {
		return "", false
	}
	_, err = fmt.Sscanf(err.Error(), "unknown command %q", &word)
	return word, err == nil
}

// noCommand says in one line that parent has no command of that name, which cobra says in several.
func noCommand(parent *cobra.Command, word string) error {
	below := strings.TrimPrefix(parent.CommandPath()+" ", parent.Root().Name()+" ")
	parent.SuggestionsMinimumDistance = 2 // of letters: cobra's own default, which it sets only where it suggests by itself
	if near := parent.SuggestionsFor(word); len(near) > 0 {
		return fmt.Errorf("no command %q; did you mean %s?", below+word, strings.Join(near, " or "))
	}
	return fmt.Errorf("no command %q; `%s --help` lists them", below+word, parent.CommandPath())
}

// plainFlagError says what a flag's value must be, where the flag's parser speaks of its own insides.
func plainFlagError(err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	flag := invalid.GetFlag()
	wants := map[string]string{
		"duration": "a time with its unit, such as 90s, 10m or 1h30m",
		"int":      "a whole number",
		"int64":    "a whole number",
		"bool":     "true or false",
	}[flag.Value.Type()]
	if wants == "" {
		return err
	}
	return advice{fmt.Sprintf("--%s must be %s, not %q", flag.Name, wants, invalid.GetValue()), err}
}
