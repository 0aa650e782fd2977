package main

import "github.com/spf13/cobra"

func (p *program) keepalive() *cobra.Command { return &cobra.Command{Use: "keepalive"} }
