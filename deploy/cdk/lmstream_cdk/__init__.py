"""The AWS path of lmstream as CDK stacks: network, streaming, data, transform, operations."""
