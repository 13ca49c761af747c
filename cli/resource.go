package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mainstay-cluster/mainstay/object"
)

// target is a kind and, unless all of them are meant, names of it.
type target struct {
	kind  object.Kind
	names []string
}

// parseTargets reads what stands after get and describe: "pods", "pods,svc", "all", "pod web db" or "pod/web deploy/web".
func parseTargets(args []string) ([]target, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("say what kind of object: %s", kindList())
	}
	if strings.Contains(args[0], "/") {
		return parseSlashed(args)
	}
	var targets []target
	for word := range strings.SplitSeq(args[0], ",") {
		kinds, err := kindsNamed(word)
		if err != nil {
			return nil, err
		}
		for _, k := range kinds {
			targets = append(targets, target{k, args[1:]})
		}
	}
	if i := slices.IndexFunc(args[1:], func(s string) bool { return strings.Contains(s, "/") }); i >= 0 {
		return nil, fmt.Errorf("%q: give the kind either first (`pod web`) or with each name (`pod/web`)", args[1+i])
	}
	return targets, nil
}

func parseSlashed(args []string) ([]target, error) {
	var targets []target
	for _, arg := range args {
		t, err := parseSlash(arg)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// parseSlash reads KIND/NAME.
func parseSlash(arg string) (target, error) {
	word, name, ok := strings.Cut(arg, "/")
	if !ok || name == "" || strings.Contains(name, "/") {
		return target{}, fmt.Errorf("%q must be KIND/NAME, such as deployment/web", arg)
	}
	k, err := kindNamed(word)
	return target{k, []string{name}}, err
}

func kindsNamed(word string) ([]object.Kind, error) {
	var kinds []object.Kind
	for _, k := range object.Kinds() {
		if slices.Contains(k.Categories, strings.ToLower(word)) {
			kinds = append(kinds, k)
		}
	}
	if len(kinds) > 0 {
		return kinds, nil
	}
	k, err := kindNamed(word)
	return []object.Kind{k}, err
}

func kindNamed(word string) (object.Kind, error) {
	k, ok := object.ByName(word)
	if !ok {
		return k, fmt.Errorf("there is no kind %q. The kinds are %s", word, kindList())
	}
	return k, nil
}

// kindList names every kind with its short names.
func kindList() string {
	var names []string
	for _, k := range object.Kinds() {
		name := k.Resource
		if len(k.ShortNames) > 0 {
			name += " (" + strings.Join(k.ShortNames, ", ") + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// typedName is how `-o name` and a table of several kinds name an object: deployment.apps/web.
func typedName(k object.Kind, name string) string {
	if k.Group == "" {
		return k.Singular() + "/" + name
	}
	return k.Singular() + "." + k.Group + "/" + name
}

// completeKinds offers the kinds for the first argument.
func completeKinds(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, k := range object.Kinds() {
		names = append(names, k.Resource)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
