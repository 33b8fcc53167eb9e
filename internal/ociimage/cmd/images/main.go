// Command images makes the image of one program from its binaries, as an OCI
// archive or in a registry, and prints its digest.
//
//	images --name fleet-agent --version v1.0.0 --amd64 bin/fleet-agent-linux-amd64 --arm64 bin/fleet-agent-linux-arm64 --output fleet-agent.tar
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/nationtech/fleetctl/internal/ociimage"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	image := ociimage.Image{}
	flag.StringVar(&image.Name, "name", "", "`program` that the image runs")
	flag.StringVar(&image.Version, "version", "", "its `version`, and the image's tag")
	amd64 := flag.String("amd64", "", "`binary` for linux/amd64")
	arm64 := flag.String("arm64", "", "`binary` for linux/arm64")
	output := flag.String("output", "", "`file` to write as an OCI archive")
	push := flag.String("push", "", "`registry/path` to push to")
	flag.Parse()
	for _, program := range []ociimage.Program{{Arch: "amd64", Path: *amd64}, {Arch: "arm64", Path: *arm64}} {
		if program.Path != "" {
			image.Programs = append(image.Programs, program)
		}
	}
	if image.Name == "" || image.Version == "" || len(image.Programs) == 0 || (*output == "") == (*push == "") {
		return errors.New("--name, --version, a binary, and one of --output and --push are needed")
	}
	index, err := image.Index()
	if err != nil {
		return err
	}
	if *push != "" {
		err = ociimage.Push(ctx, index, *push+"/"+image.Name+":"+image.Version)
	} else {
		err = ociimage.Save(index, image.Name+":"+image.Version, *output)
	}
	if err != nil {
		return err
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s:%s@%s\n", image.Name, image.Version, digest)
	return nil
}
