import boto3


def test_the_emulator_gives_each_test_an_account_of_its_own(aws):
    assert boto3.client("sts").get_caller_identity()["Account"] == aws
