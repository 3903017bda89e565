#!/usr/bin/env node
import '../dist/ssh-cli/main.js';
