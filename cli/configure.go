package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

const configFlag = "config"

// AddConfigFlag gives root the flag --config, and every command below it the environment and the file as further places
// for its flags. A command that has a PersistentPreRunE of its own loses them.
func AddConfigFlag(root *cobra.Command) {
	root.PersistentFlags().String(configFlag, "", "YAML file with flags, such as `FILE` with the line \"repo: /srv/app.git\"")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return configure(cmd) }
}

// configure sets each flag of cmd that was not given from the environment (--data-dir from MAINSTAY_DATA_DIR), else from
// the YAML file named by --config or MAINSTAY_CONFIG (key data-dir). The file may also hold flags of other commands; a key that
// is no flag of any command is an error.
func configure(cmd *cobra.Command) error {
	if err := fromEnvironment(cmd); err != nil {
		return err
	}
	path := ""
	if f := cmd.Flags().Lookup(configFlag); f != nil {
		path = f.Value.String()
	}
	if path == "" {
		return nil
	}
	return fromFile(cmd, path)
}

// environmentName is the variable that sets the flag.
func environmentName(flag string) string {
	return "MAINSTAY_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func fromEnvironment(cmd *cobra.Command) error {
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value, ok := os.LookupEnv(environmentName(f.Name))
		if !ok || f.Changed || isAnswer(f) {
			return
		}
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s: %w", environmentName(f.Name), plainFlagError(err)))
		}
	})
	return errors.Join(errs...)
}

func fromFile(cmd *cobra.Command, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the file of --config: %w", err)
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(data, &values); err != nil {
		return fmt.Errorf("%s must be a YAML mapping of flags to values: %w", path, err)
	}
	known := flagNames(cmd.Root())
	var errs []error
	for _, key := range sortedKeys(values) {
		if !known[key] {
			errs = append(errs, fmt.Errorf("%s: %q is no flag of any command", path, key))
			continue
		}
		f := cmd.Flags().Lookup(key)
		if f == nil || f.Changed {
			continue
		}
		if err := setFlag(cmd.Flags(), key, values[key]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", path, key, plainFlagError(err)))
		}
	}
	return errors.Join(errs...)
}

func setFlag(flags *pflag.FlagSet, name string, value any) error {
	switch v := value.(type) {
	case nil:
		return nil
	case map[string]any:
		return errors.New("must be a single value, or a list for a flag that can be repeated")
	case []any:
		for _, one := range v {
			if err := setFlag(flags, name, one); err != nil {
				return err
			}
		}
		return nil
	case float64:
		return flags.Set(name, strconv.FormatFloat(v, 'f', -1, 64))
	}
	return flags.Set(name, fmt.Sprint(value))
}

// isAnswer reports whether the flag stands for a command: it is given by hand or not at all.
func isAnswer(f *pflag.Flag) bool { return f.Name == "help" || f.Name == "version" }

// flagNames are the flags of cmd and of all commands below it. Help and the file itself cannot stand in a file.
func flagNames(cmd *cobra.Command) map[string]bool {
	names := map[string]bool{}
	add := func(f *pflag.Flag) {
		if !isAnswer(f) && f.Name != configFlag {
			names[f.Name] = true
		}
	}
	cmd.Flags().VisitAll(add)
	cmd.PersistentFlags().VisitAll(add)
	for _, sub := range cmd.Commands() {
		for name := range flagNames(sub) {
			names[name] = true
		}
	}
	return names
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
